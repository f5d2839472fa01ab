// SPDX-License-Identifier: Apache-2.0
// Overflow-checked arithmetic on sizes that come from files and requests. std::nullopt means "does not fit";
// the caller, who knows the origin and the subject, turns it into an Error.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

namespace gateskip {

inline std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

inline std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// Smallest multiple of `alignment` (a power of two) that is >= value.
inline std::optional<uint64_t> CheckedAlignUp(uint64_t value, uint64_t alignment) {
  if (!std::has_single_bit(alignment)) return std::nullopt;
  const auto sum = CheckedAdd(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

}  // namespace gateskip
