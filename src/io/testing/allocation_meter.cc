// SPDX-License-Identifier: Apache-2.0
// A request is counted before it is made, so that one that is far too large counts even where it fails.
#include "io/testing/allocation_meter.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace gateskip::testing {
namespace {

std::atomic<size_t> live_bytes{0};
std::atomic<size_t> peak_bytes{0};

void Raise(size_t candidate) {
  size_t peak = peak_bytes.load();
  while (candidate > peak && !peak_bytes.compare_exchange_weak(peak, candidate)) {
  }
}

void* TryAllocate(size_t size) noexcept {
  Raise(live_bytes.load() + size);
  void* p = std::malloc(std::max<size_t>(size, 1));
  if (p != nullptr) live_bytes += malloc_usable_size(p);
  return p;
}

void* Allocate(size_t size) {
  void* p = TryAllocate(size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

void Release(void* p) {
  if (p == nullptr) return;
  live_bytes -= malloc_usable_size(p);
  std::free(p);
}

}  // namespace

AllocationMeter::AllocationMeter() : start_(live_bytes.load()) { peak_bytes = start_; }
size_t AllocationMeter::PeakBytes() const { return peak_bytes.load() - std::min(start_, peak_bytes.load()); }

}  // namespace gateskip::testing

void* operator new(size_t size) { return gateskip::testing::Allocate(size); }
void* operator new[](size_t size) { return gateskip::testing::Allocate(size); }
// The standard library's temporary buffers (std::stable_sort) come from these.
void* operator new(size_t size, const std::nothrow_t&) noexcept { return gateskip::testing::TryAllocate(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return gateskip::testing::TryAllocate(size); }
void operator delete(void* p) noexcept { gateskip::testing::Release(p); }
void operator delete[](void* p) noexcept { gateskip::testing::Release(p); }
void operator delete(void* p, size_t) noexcept { gateskip::testing::Release(p); }
void operator delete[](void* p, size_t) noexcept { gateskip::testing::Release(p); }
