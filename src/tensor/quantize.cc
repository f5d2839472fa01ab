// SPDX-License-Identifier: Apache-2.0
#include "tensor/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

constexpr size_t kBlock = 32;

// False when the half is not finite.
bool StoreHalf(float value, std::byte* out) {
  const uint16_t bits = FloatToHalf(value);
  std::memcpy(out, &bits, sizeof(bits));
  return (bits & 0x7C00) != 0x7C00;
}

// 1 / scale; 0 for a scale of 0, and for one so small that the inverse is no number (its block is all zeros in f16).
float Inverse(float scale) {
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

// Element i in the low, i + 16 in the high nibble: min(15, trunc((value - minimum) * inverse + shift)).
void StoreNibbles(const float* values, float minimum, float inverse, float shift, std::byte* out) {
  const auto code = [&](size_t i) { return std::min(15, static_cast<int>((values[i] - minimum) * inverse + shift)); };
  for (size_t i = 0; i < kBlock / 2; ++i) out[i] = static_cast<std::byte>(code(i) | (code(i + kBlock / 2) << 4));
}

bool QuantizeQ4_0(const float* values, std::byte* out) {
  float largest = 0;  // in magnitude, with its sign: it gets code 0, the one of -8
  for (size_t i = 0; i < kBlock; ++i) {
    if (std::fabs(values[i]) > std::fabs(largest)) largest = values[i];
  }
  const float scale = largest / -8.0F;
  StoreNibbles(values, 0.0F, Inverse(scale), 8.5F, out + 2);
  return StoreHalf(scale, out);
}

bool QuantizeQ4_1(const float* values, std::byte* out) {
  const auto [low, high] = std::minmax_element(values, values + kBlock);
  const float scale = (*high - *low) / 15.0F;
  if (!std::isfinite(scale)) return false;
  StoreNibbles(values, *low, Inverse(scale), 0.5F, out + 4);
  return StoreHalf(scale, out) && StoreHalf(*low, out + 2);
}

bool QuantizeQ8_0(const float* values, std::byte* out) {
  float largest = 0;
  for (size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / 127.0F;
  const float inverse = Inverse(scale);
  for (size_t i = 0; i < kBlock; ++i) {
    out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(std::round(values[i] * inverse)));
  }
  return StoreHalf(scale, out);
}

bool QuantizeBlock(DType dtype, const float* values, std::byte* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, values, sizeof(float));
      return true;
    case DType::kF16:
      return StoreHalf(*values, out);
    case DType::kBF16: {
      const uint16_t bits = FloatToBf16(*values);
      std::memcpy(out, &bits, sizeof(bits));
      return (bits & 0x7F80) != 0x7F80;
    }
    case DType::kQ4_0:
      return QuantizeQ4_0(values, out);
    case DType::kQ4_1:
      return QuantizeQ4_1(values, out);
    case DType::kQ8_0:
      return QuantizeQ8_0(values, out);
    default:
      GS_CHECK(false);
  }
  return false;
}

}  // namespace

bool CanQuantize(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ8_0:
      return true;
    default:
      return false;
  }
}

bool Quantize(DType dtype, std::span<const float> values, std::span<std::byte> out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  GS_CHECK(CanQuantize(dtype) && values.size() % info.block_elements == 0 &&
           out.size() == values.size() / info.block_elements * info.block_bytes);
  if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) return false;
  for (size_t b = 0; b < values.size() / info.block_elements; ++b) {
    if (!QuantizeBlock(dtype, values.data() + b * info.block_elements, out.data() + b * info.block_bytes)) return false;
  }
  return true;
}

uint16_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN stays one
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace gateskip
