// SPDX-License-Identifier: Apache-2.0
// Block layouts as in ggml (github.com/ggml-org/ggml, src/ggml-common.h and ggml-quants.c).
#include "tensor/dequantize.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace gateskip {
namespace {

using Bytes = const std::byte*;

uint8_t U8(Bytes p) { return std::to_integer<uint8_t>(*p); }
uint16_t U16(Bytes p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
float Half(Bytes p) { return HalfToFloat(U16(p)); }

// The minimum of formats without one: adding it changes no float. (+0 would turn -0 into +0.)
constexpr float kNoMinimum = -0.0F;

// d, [m], [32 fifth bits], 16 bytes of nibbles: element i in the low, i + 16 in the high nibble.
void Block4(float d, float m, Bytes fifth_bits, Bytes nibbles, int zero, float* out) {
  uint32_t high = 0;
  if (fifth_bits != nullptr) std::memcpy(&high, fifth_bits, sizeof(high));
  for (uint32_t i = 0; i < 16; ++i) {
    const uint8_t byte = U8(nibbles + i);
    const int low_code = (byte & 0x0F) | static_cast<int>(((high >> i) & 1) << 4);
    const int high_code = (byte >> 4) | static_cast<int>(((high >> (i + 16)) & 1) << 4);
    out[i] = d * static_cast<float>(low_code - zero) + m;
    out[i + 16] = d * static_cast<float>(high_code - zero) + m;
  }
}

// 6-bit scales and minimums of the 8 sub-blocks of a K super-block.
void UnpackKScales(Bytes scales, uint8_t* scale, uint8_t* min) {
  for (size_t j = 0; j < 8; ++j) {
    if (j < 4) {
      scale[j] = U8(scales + j) & 63;
      min[j] = U8(scales + j + 4) & 63;
    } else {
      scale[j] = static_cast<uint8_t>((U8(scales + j + 4) & 0x0F) | ((U8(scales + j - 4) >> 6) << 4));
      min[j] = static_cast<uint8_t>((U8(scales + j + 4) >> 4) | ((U8(scales + j) >> 6) << 4));
    }
  }
}

void BlockQ45K(Bytes p, bool five, float* out) {
  const float d = Half(p);
  const float dmin = Half(p + 2);
  uint8_t scale[8], min[8];
  UnpackKScales(p + 4, scale, min);
  Bytes high = p + 16;  // Q5_K: 32 bytes of fifth bits
  Bytes low = p + (five ? 48 : 16);
  for (size_t j = 0; j < 8; ++j) {
    const float s = d * static_cast<float>(scale[j]);
    const float m = dmin * static_cast<float>(min[j]);
    for (size_t i = 0; i < 32; ++i) {
      const uint8_t byte = U8(low + (j / 2) * 32 + i);
      int code = j % 2 == 0 ? byte & 0x0F : byte >> 4;
      if (five) code |= ((U8(high + i) >> j) & 1) << 4;
      out[j * 32 + i] = s * static_cast<float>(code) - m;
    }
  }
}

void BlockQ6K(Bytes p, float* out) {
  Bytes high = p + 128;
  Bytes scales = p + 192;
  const float d = Half(p + 208);
  for (size_t e = 0; e < 256; ++e) {
    const size_t half = e / 128;
    const size_t quarter = (e % 128) / 32;
    const size_t i = e % 32;
    const uint8_t low_byte = U8(p + half * 64 + (quarter % 2) * 32 + i);
    const int low = quarter < 2 ? low_byte & 0x0F : low_byte >> 4;
    const int two = (U8(high + half * 32 + i) >> (2 * quarter)) & 3;
    const auto scale = static_cast<int8_t>(U8(scales + e / 16));
    out[e] = d * static_cast<float>(scale) * static_cast<float>((low | (two << 4)) - 32);
  }
}

void DequantizeBlock(DType dtype, Bytes p, float* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, p, sizeof(float));
      return;
    case DType::kF16:
      *out = Half(p);
      return;
    case DType::kBF16:
      *out = Bf16ToFloat(U16(p));
      return;
    case DType::kQ4_0:
      return Block4(Half(p), kNoMinimum, nullptr, p + 2, 8, out);
    case DType::kQ4_1:
      return Block4(Half(p), Half(p + 2), nullptr, p + 4, 0, out);
    case DType::kQ5_0:
      return Block4(Half(p), kNoMinimum, p + 2, p + 6, 16, out);
    case DType::kQ5_1:
      return Block4(Half(p), Half(p + 2), p + 4, p + 8, 0, out);
    case DType::kQ8_0:
      for (size_t i = 0; i < 32; ++i) out[i] = Half(p) * static_cast<float>(static_cast<int8_t>(U8(p + 2 + i)));
      return;
    case DType::kQ4_K:
      return BlockQ45K(p, false, out);
    case DType::kQ5_K:
      return BlockQ45K(p, true, out);
    case DType::kQ6_K:
      return BlockQ6K(p, out);
  }
}

}  // namespace

void Dequantize(DType dtype, std::span<const std::byte> blocks, std::span<float> out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  GS_CHECK(out.size() % info.block_elements == 0 &&
           blocks.size() == out.size() / info.block_elements * info.block_bytes);
  for (size_t b = 0; b < out.size() / info.block_elements; ++b) {
    DequantizeBlock(dtype, blocks.data() + b * info.block_bytes, out.data() + b * info.block_elements);
  }
}

void DequantizeRow(const TensorView& tensor, size_t r, std::span<float> out) {
  const auto row_bytes = StorageBytes(tensor.dtype, out.size());
  GS_CHECK(row_bytes && !tensor.shape.empty() && static_cast<size_t>(tensor.shape.back()) == out.size() &&
           (r + 1) * *row_bytes <= tensor.data.size());
  Dequantize(tensor.dtype, tensor.data.subspan(r * *row_bytes, *row_bytes), out);
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000 | (mantissa << 13));
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1.0p-24F;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);   // NaN
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // rounds to infinity
  if (magnitude < 0x38800000) {  // subnormal half: let the FPU round at the right bit
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

}  // namespace gateskip
