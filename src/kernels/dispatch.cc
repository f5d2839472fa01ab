// SPDX-License-Identifier: Apache-2.0
// Which CPU target runs. The only place that asks the CPU.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>

#include "base/check.h"
#include "kernels/packed_layout.h"

namespace gateskip::kernels {
namespace {

bool Supported(CpuTarget target) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Clang's list of feature names lacks f16c: bit 29 of ECX, leaf 1.
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & (1U << 29)) != 0;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  switch (target) {
    case CpuTarget::kScalar:
      return true;
    case CpuTarget::kAvx2:
      return avx2;
    case CpuTarget::kAvx512:
      return avx512;
    case CpuTarget::kAvx512Vnni:
      return avx512 && __builtin_cpu_supports("avx512vnni");
  }
  return false;
#else
  return target == CpuTarget::kScalar;
#endif
}

const KernelTable& TableOf(CpuTarget target) {
#if defined(__x86_64__)
  switch (target) {
    case CpuTarget::kScalar:
      return ScalarKernels();
    case CpuTarget::kAvx2:
      return Avx2Kernels();
    case CpuTarget::kAvx512:
      return Avx512Kernels();
    case CpuTarget::kAvx512Vnni:
      return Avx512VnniKernels();
  }
#endif
  return ScalarKernels();
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

std::string_view CpuTargetName(CpuTarget target) {
  switch (target) {
    case CpuTarget::kScalar:
      return "scalar";
    case CpuTarget::kAvx2:
      return "avx2";
    case CpuTarget::kAvx512:
      return "avx512";
    case CpuTarget::kAvx512Vnni:
      return "avx512vnni";
  }
  return "unknown";
}

std::vector<CpuTarget> SupportedCpuTargets() {
  std::vector<CpuTarget> targets;
  for (const CpuTarget target : {CpuTarget::kScalar, CpuTarget::kAvx2, CpuTarget::kAvx512, CpuTarget::kAvx512Vnni}) {
    if (Supported(target)) targets.push_back(target);
  }
  return targets;
}

const KernelTable& ActiveKernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (table == nullptr) {
    table = &TableOf(SupportedCpuTargets().back());
    active.store(table, std::memory_order_release);
  }
  return *table;
}

CpuTarget ActiveCpuTarget() { return ActiveKernels().target; }

void ForceCpuTarget(CpuTarget target) {
  if (!Supported(target)) {
    Fail(ErrorCode::kUnsupported, "[kernels] cpu target: expected one this machine has, found {}; use {}",
         CpuTargetName(target), CpuTargetName(SupportedCpuTargets().back()));
  }
  active.store(&TableOf(target), std::memory_order_release);
}

}  // namespace gateskip::kernels
