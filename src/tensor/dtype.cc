// SPDX-License-Identifier: Apache-2.0
#include "tensor/dtype.h"

#include <array>

#include "base/check.h"
#include "base/checked_math.h"

namespace gateskip {
namespace {

constexpr std::array<DTypeInfo, kNumDTypes> kInfo = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
}};

}  // namespace

const DTypeInfo& GetDTypeInfo(DType dtype) {
  GS_CHECK(static_cast<size_t>(dtype) < kInfo.size());
  return kInfo[static_cast<size_t>(dtype)];
}

std::optional<uint64_t> StorageBytes(DType dtype, uint64_t elements) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  if (elements % info.block_elements != 0) return std::nullopt;
  return CheckedMul(elements / info.block_elements, info.block_bytes);
}

}  // namespace gateskip
