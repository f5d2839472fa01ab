// SPDX-License-Identifier: Apache-2.0
// Formats of 32 elements and of one. The K formats are in quantize_k.cc.
#include "tensor/quantize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "tensor/block_fit.h"
#include "tensor/dequantize.h"
#include "tensor/quantize_k.h"
#include "tensor/stored_half.h"

namespace gateskip {
namespace {

constexpr size_t kBlock = 32;
constexpr CodeRange kCodesQ8 = {-127, 127};

// 1 / scale; 0 for a scale of 0, and for one so small that the inverse is no number (its block is all zeros in f16).
float Inverse(float scale) {
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

// The formats of nibbles: Q4_0, Q4_1, Q5_0 and Q5_1.
struct NibbleFormat {
  int levels;  // codes 0 .. levels - 1
  bool has_minimum;

  CodeRange range() const { return has_minimum ? CodeRange{0, levels - 1} : CodeRange{-levels / 2, levels / 2 - 1}; }
  int zero() const { return has_minimum ? 0 : levels / 2; }
  size_t header() const { return has_minimum ? 4 : 2; }
};

NibbleFormat NibbleFormatOf(DType dtype) {
  return {.levels = dtype == DType::kQ5_0 || dtype == DType::kQ5_1 ? 32 : 16,
          .has_minimum = dtype == DType::kQ4_1 || dtype == DType::kQ5_1};
}

// Scale, minimum, fifth bits, nibbles: element i in the low, i + 16 in the high nibble. Codes from 0.
bool StoreNibbles(const NibbleFormat& format, BlockFit fit, const int* codes, std::byte* out) {
  std::byte* p = out + format.header();
  if (format.levels == 32) {
    uint32_t fifth = 0;
    for (size_t i = 0; i < kBlock; ++i) fifth |= static_cast<uint32_t>(codes[i] >> 4) << i;
    std::memcpy(p, &fifth, sizeof(fifth));
    p += sizeof(fifth);
  }
  for (size_t i = 0; i < kBlock / 2; ++i) {
    p[i] = static_cast<std::byte>((codes[i] & 0x0F) | ((codes[i + kBlock / 2] & 0x0F) << 4));
  }
  return StoreHalf(fit.scale, out) && (!format.has_minimum || StoreHalf(fit.minimum, out + 2));
}

bool PlainNibbles(const NibbleFormat& format, const float* values, std::byte* out) {
  BlockFit fit;
  float shift = 0.5F;
  if (format.has_minimum) {
    const auto [low, high] = std::minmax_element(values, values + kBlock);
    fit = {(*high - *low) / static_cast<float>(format.levels - 1), *low};
    if (!std::isfinite(fit.scale)) return false;
  } else {
    float largest = 0;  // in magnitude, with its sign: it gets code 0, the one of -levels / 2
    for (size_t i = 0; i < kBlock; ++i) {
      if (std::fabs(values[i]) > std::fabs(largest)) largest = values[i];
    }
    const int half = format.levels / 2;
    fit.scale = largest / static_cast<float>(-half);
    shift += static_cast<float>(half);
  }
  const float inverse = Inverse(fit.scale);
  int codes[kBlock];
  for (size_t i = 0; i < kBlock; ++i) {
    codes[i] = std::min(format.levels - 1, static_cast<int>((values[i] - fit.minimum) * inverse + shift));
  }
  return StoreNibbles(format, fit, codes, out);
}

void SearchedNibbles(const NibbleFormat& format, const float* values, std::span<const float> weights, std::byte* out) {
  const std::span<const float> block(values, kBlock);
  const CodeRange range = format.range();
  const BlockFit fit = format.has_minimum ? FitAffine(block, weights, range, /*non_positive=*/false, AsHalf)
                                          : FitScale(block, weights, range, AsHalf);
  int codes[kBlock];
  Encode(block, weights, fit, range, codes);
  for (int& code : codes) code += format.zero();
  // Not finite at worst, which then loses against the plain block.
  (void)StoreNibbles(format, fit, codes, out);
}

bool StoreQ8(float scale, const int* codes, std::byte* out) {
  for (size_t i = 0; i < kBlock; ++i) out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(codes[i]));
  return StoreHalf(scale, out);
}

bool PlainQ8(const float* values, std::byte* out) {
  float largest = 0;
  for (size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / 127.0F;
  const float inverse = Inverse(scale);
  int codes[kBlock];
  for (size_t i = 0; i < kBlock; ++i) codes[i] = static_cast<int>(std::round(values[i] * inverse));
  return StoreQ8(scale, codes, out);
}

void SearchedQ8(const float* values, std::span<const float> weights, std::byte* out) {
  const std::span<const float> block(values, kBlock);
  const BlockFit fit = FitScale(block, weights, kCodesQ8, AsHalf);
  int codes[kBlock];
  Encode(block, weights, fit, kCodesQ8, codes);
  (void)StoreQ8(fit.scale, codes, out);
}

bool PlainBlock(DType dtype, const float* values, std::byte* out) {
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
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
      return PlainNibbles(NibbleFormatOf(dtype), values, out);
    case DType::kQ8_0:
      return PlainQ8(values, out);
    case DType::kQ4_K:
    case DType::kQ5_K:
      return PlainQ45K(dtype == DType::kQ5_K, values, out);
    case DType::kQ6_K:
      return PlainQ6K(values, out);
  }
  return false;
}

void SearchedBlock(DType dtype, const float* values, std::span<const float> weights, std::byte* out) {
  switch (dtype) {
    case DType::kQ8_0:
      return SearchedQ8(values, weights, out);
    case DType::kQ4_K:
    case DType::kQ5_K:
      return SearchedQ45K(dtype == DType::kQ5_K, values, weights, out);
    case DType::kQ6_K:
      return SearchedQ6K(values, weights, out);
    default:
      return SearchedNibbles(NibbleFormatOf(dtype), values, weights, out);
  }
}

// NaN, which is not smaller than anything, when the block holds what is not finite.
double WeightedError(DType dtype, std::span<const float> values, std::span<const float> weights,
                     std::span<const std::byte> block) {
  std::array<float, kSuperBlock> back;
  const std::span<float> stored(back.data(), values.size());
  Dequantize(dtype, block, stored);
  double error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double off = static_cast<double>(values[i]) - static_cast<double>(stored[i]);
    error += static_cast<double>(weights[i]) * off * off;
  }
  return error;
}

bool IsFinite(float value) { return std::isfinite(value); }

void CheckSizes(const DTypeInfo& info, std::span<const float> values, std::span<std::byte> out) {
  GS_CHECK(values.size() % info.block_elements == 0 &&
           out.size() == values.size() / info.block_elements * info.block_bytes);
}

}  // namespace

bool Quantize(DType dtype, std::span<const float> values, std::span<std::byte> out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  CheckSizes(info, values, out);
  if (!std::ranges::all_of(values, IsFinite)) return false;
  for (size_t b = 0; b < values.size() / info.block_elements; ++b) {
    if (!PlainBlock(dtype, values.data() + b * info.block_elements, out.data() + b * info.block_bytes)) return false;
  }
  return true;
}

bool QuantizeSearched(DType dtype, std::span<const float> values, std::span<const float> weights,
                      std::span<std::byte> out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  GS_CHECK(weights.empty() || (weights.size() == values.size() &&
                               std::ranges::all_of(weights, [](float w) { return std::isfinite(w) && w >= 0.0F; })));
  if (info.block_elements == 1) return Quantize(dtype, values, out);
  CheckSizes(info, values, out);
  if (!std::ranges::all_of(values, IsFinite)) return false;
  const std::vector<float> ones(weights.empty() ? info.block_elements : 0, 1.0F);
  std::array<std::byte, kMaxBlockBytes> candidate;
  const std::span<std::byte> searched(candidate.data(), info.block_bytes);
  for (size_t b = 0; b < values.size() / info.block_elements; ++b) {
    const std::span<const float> block = values.subspan(b * info.block_elements, info.block_elements);
    const std::span<const float> block_weights =
        weights.empty() ? std::span<const float>(ones) : weights.subspan(b * info.block_elements, info.block_elements);
    const std::span<std::byte> plain = out.subspan(b * info.block_bytes, info.block_bytes);
    if (!PlainBlock(dtype, block.data(), plain.data())) return false;
    SearchedBlock(dtype, block.data(), block_weights, searched.data());
    if (WeightedError(dtype, block, block_weights, searched) < WeightedError(dtype, block, block_weights, plain)) {
      std::ranges::copy(searched, plain.begin());
    }
  }
  return true;
}

uint16_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN stays one
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace gateskip
