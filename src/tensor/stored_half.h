// SPDX-License-Identifier: Apache-2.0
// The f16 factors of block formats.
#pragma once

#include <cstddef>
#include <cstring>

#include "tensor/dequantize.h"

namespace gateskip {

// What a factor is once stored.
inline float AsHalf(float value) { return HalfToFloat(FloatToHalf(value)); }

// False when the half is not finite.
inline bool StoreHalf(float value, std::byte* out) {
  const uint16_t bits = FloatToHalf(value);
  std::memcpy(out, &bits, sizeof(bits));
  return (bits & 0x7C00) != 0x7C00;
}

}  // namespace gateskip
