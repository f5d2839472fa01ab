// SPDX-License-Identifier: Apache-2.0
// A super-block is searched in two turns: the real-valued scales of its sub-blocks, each by itself, then integers for
// them and the one or two f16 factors, which are fitted again to the codes that came out.
#include "tensor/quantize_k.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "tensor/block_fit.h"
#include "tensor/stored_half.h"

namespace gateskip {
namespace {

constexpr int kRefinements = 2;  // of the factors of a super-block
constexpr int kMaxKScale = 63;   // 6 bits
constexpr size_t kSubs45 = 8;    // of 32 elements
constexpr size_t kSubs6 = 16;    // of 16 elements
constexpr CodeRange kCodesQ6 = {-32, 31};

float Quotient(float value, float by) {
  const float quotient = by == 0.0F ? 0.0F : value / by;
  return std::isfinite(quotient) ? quotient : 0.0F;
}

int RoundWithin(float value, int low, int high) {
  return std::clamp(static_cast<int>(std::lround(std::clamp(value, -1000.0F, 1000.0F))), low, high);
}

// --- Q4_K and Q5_K: stored = d * scale_j * code - dmin * min_j ------------------------------------------------------

struct Block45 {
  float d = 0, dmin = 0;  // as stored
  std::array<int, kSubs45> scale = {}, min = {};
  std::array<int, kSuperBlock> codes = {};

  BlockFit Fit(int sub_scale, int sub_min) const {
    return {d * static_cast<float>(sub_scale), -(dmin * static_cast<float>(sub_min))};
  }
};

CodeRange Range45(bool five) { return {0, five ? 31 : 15}; }

bool Store45(bool five, const Block45& block, std::byte* out) {
  std::array<int, 12> scales = {};
  for (size_t j = 0; j < 4; ++j) {
    scales[j] = block.scale[j] | ((block.scale[j + 4] >> 4) << 6);
    scales[j + 4] = block.min[j] | ((block.min[j + 4] >> 4) << 6);
    scales[j + 8] = (block.scale[j + 4] & 0x0F) | ((block.min[j + 4] & 0x0F) << 4);
  }
  for (size_t i = 0; i < scales.size(); ++i) out[4 + i] = static_cast<std::byte>(scales[i]);
  std::byte* high = out + 16;
  std::byte* low = out + (five ? 48 : 16);
  if (five) std::fill(high, low, std::byte{0});
  for (size_t j = 0; j < kSubs45; j += 2) {
    for (size_t i = 0; i < 32; ++i) {
      const int first = block.codes[j * 32 + i];
      const int second = block.codes[(j + 1) * 32 + i];
      low[j / 2 * 32 + i] = static_cast<std::byte>((first & 0x0F) | ((second & 0x0F) << 4));
      if (five) high[i] |= static_cast<std::byte>(((first >> 4) << j) | ((second >> 4) << (j + 1)));
    }
  }
  return StoreHalf(block.d, out) && StoreHalf(block.dmin, out + 2);
}

// The super-block whose sub-blocks come near to these fits.
Block45 RoundScales(const std::array<BlockFit, kSubs45>& fits) {
  Block45 block;
  for (const BlockFit& fit : fits) {
    block.d = std::max(block.d, fit.scale / static_cast<float>(kMaxKScale));
    block.dmin = std::max(block.dmin, -fit.minimum / static_cast<float>(kMaxKScale));
  }
  block.d = AsHalf(block.d);
  block.dmin = AsHalf(block.dmin);
  for (size_t j = 0; j < kSubs45; ++j) {
    block.scale[j] = RoundWithin(Quotient(fits[j].scale, block.d), 0, kMaxKScale);
    block.min[j] = RoundWithin(Quotient(-fits[j].minimum, block.dmin), 0, kMaxKScale);
  }
  return block;
}

using Sub = std::span<const float>;

// The best of the integer scales near those at hand, and the codes for it. Returns the error.
double ChooseScales45(bool five, const float* values, std::span<const float> weights, Block45* block) {
  double total = 0;
  for (size_t j = 0; j < kSubs45; ++j) {
    const Sub x(values + j * 32, 32);
    const Sub w = weights.subspan(j * 32, 32);
    const int scale = block->scale[j];
    const int min = block->min[j];
    double best = HUGE_VAL;
    for (int s = std::max(0, scale - 1); s <= std::min(kMaxKScale, scale + 1); ++s) {
      for (int m = std::max(0, min - 1); m <= std::min(kMaxKScale, min + 1); ++m) {
        std::array<int, 32> codes;
        const double error = Encode(x, w, block->Fit(s, m), Range45(five), codes.data());
        if (!(error < best)) continue;
        best = error;
        block->scale[j] = s;
        block->min[j] = m;
        std::ranges::copy(codes, block->codes.begin() + static_cast<ptrdiff_t>(j * 32));
      }
    }
    total += best;
  }
  return total;
}

// d and dmin by least squares for the integers at hand.
void RefitFactors45(const float* values, std::span<const float> weights, Block45* block) {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // a = scale * code, b = -min
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const double a = static_cast<double>(block->scale[i / 32]) * block->codes[i];
    const double b = -static_cast<double>(block->min[i / 32]);
    const double w = static_cast<double>(weights[i]);
    const double x = static_cast<double>(values[i]);
    aa += w * a * a;
    ab += w * a * b;
    bb += w * b * b;
    ax += w * a * x;
    bx += w * b * x;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    block->d = AsHalf(static_cast<float>((bb * ax - ab * bx) / determinant));
    block->dmin = AsHalf(static_cast<float>((aa * bx - ab * ax) / determinant));
  } else if (aa > 0) {
    block->d = AsHalf(static_cast<float>((ax - ab * static_cast<double>(block->dmin)) / aa));
  }
}

// --- Q6_K: stored = d * scale_j * code ------------------------------------------------------------------------------

struct Block6 {
  float d = 0;  // as stored
  std::array<int, kSubs6> scale = {};
  std::array<int, kSuperBlock> codes = {};

  BlockFit Fit(int sub_scale) const { return {d * static_cast<float>(sub_scale), 0.0F}; }
};

bool Store6(const Block6& block, std::byte* out) {
  std::fill(out, out + 192, std::byte{0});
  for (size_t e = 0; e < kSuperBlock; ++e) {
    const size_t half = e / 128;
    const size_t quarter = (e % 128) / 32;
    const size_t i = e % 32;
    const int code = block.codes[e] - kCodesQ6.lowest;
    out[half * 64 + (quarter % 2) * 32 + i] |= static_cast<std::byte>((code & 0x0F) << (quarter < 2 ? 0 : 4));
    out[128 + half * 32 + i] |= static_cast<std::byte>((code >> 4) << (2 * quarter));
  }
  for (size_t j = 0; j < kSubs6; ++j) out[192 + j] = static_cast<std::byte>(static_cast<int8_t>(block.scale[j]));
  return StoreHalf(block.d, out + 208);
}

// The largest scale in magnitude gets -128.
Block6 RoundScales(const std::array<float, kSubs6>& scales) {
  Block6 block;
  float largest = 0;
  for (const float scale : scales) largest = std::fabs(scale) > std::fabs(largest) ? scale : largest;
  block.d = AsHalf(largest / -128.0F);
  for (size_t j = 0; j < kSubs6; ++j) block.scale[j] = RoundWithin(Quotient(scales[j], block.d), -128, 127);
  return block;
}

double ChooseScales6(const float* values, std::span<const float> weights, Block6* block) {
  double total = 0;
  for (size_t j = 0; j < kSubs6; ++j) {
    const int scale = block->scale[j];
    double best = HUGE_VAL;
    for (int s = std::max(-128, scale - 1); s <= std::min(127, scale + 1); ++s) {
      std::array<int, 16> codes;
      const double error =
          Encode(Sub(values + j * 16, 16), weights.subspan(j * 16, 16), block->Fit(s), kCodesQ6, codes.data());
      if (!(error < best)) continue;
      best = error;
      block->scale[j] = s;
      std::ranges::copy(codes, block->codes.begin() + static_cast<ptrdiff_t>(j * 16));
    }
    total += best;
  }
  return total;
}

void RefitFactor6(const float* values, std::span<const float> weights, Block6* block) {
  double aa = 0, ax = 0;  // a = scale * code
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const double a = static_cast<double>(block->scale[i / 16]) * block->codes[i];
    aa += static_cast<double>(weights[i]) * a * a;
    ax += static_cast<double>(weights[i]) * a * static_cast<double>(values[i]);
  }
  if (aa > 0) block->d = AsHalf(static_cast<float>(ax / aa));
}

// Integers for the factors, factors for the integers, in turn; the best of what came by.
template <typename Block, typename Choose, typename Refit>
Block Refine(Block block, const Choose& choose, const Refit& refit) {
  double error = choose(&block);
  Block best = block;
  for (int round = 0; round < kRefinements; ++round) {
    refit(&block);
    const double next = choose(&block);
    if (!(next < error)) break;
    error = next;
    best = block;
  }
  return best;
}

}  // namespace

bool PlainQ45K(bool five, const float* values, std::byte* out) {
  std::array<BlockFit, kSubs45> fits;
  for (size_t j = 0; j < kSubs45; ++j) {
    const auto [low, high] = std::minmax_element(values + j * 32, values + (j + 1) * 32);
    const float minimum = std::min(*low, 0.0F);
    fits[j] = {(std::max(*high, 0.0F) - minimum) / static_cast<float>(Range45(five).highest), minimum};
    if (!std::isfinite(fits[j].scale)) return false;
  }
  Block45 block = RoundScales(fits);
  const std::array<float, 32> any_weights = {};
  for (size_t j = 0; j < kSubs45; ++j) {
    Encode(Sub(values + j * 32, 32), any_weights, block.Fit(block.scale[j], block.min[j]), Range45(five),
           block.codes.data() + j * 32);
  }
  return Store45(five, block, out);
}

bool PlainQ6K(const float* values, std::byte* out) {
  std::array<float, kSubs6> scales = {};
  for (size_t j = 0; j < kSubs6; ++j) {
    float largest = 0;
    for (const float v : Sub(values + j * 16, 16)) largest = std::fabs(v) > std::fabs(largest) ? v : largest;
    scales[j] = largest / static_cast<float>(kCodesQ6.lowest);
  }
  Block6 block = RoundScales(scales);
  const std::array<float, 16> any_weights = {};
  for (size_t j = 0; j < kSubs6; ++j) {
    Encode(Sub(values + j * 16, 16), any_weights, block.Fit(block.scale[j]), kCodesQ6, block.codes.data() + j * 16);
  }
  return Store6(block, out);
}

void SearchedQ45K(bool five, const float* values, std::span<const float> weights, std::byte* out) {
  std::array<BlockFit, kSubs45> fits;
  for (size_t j = 0; j < kSubs45; ++j) {
    fits[j] =
        FitAffine(Sub(values + j * 32, 32), weights.subspan(j * 32, 32), Range45(five), /*non_positive=*/true, nullptr);
  }
  const Block45 block = Refine(
      RoundScales(fits), [&](Block45* b) { return ChooseScales45(five, values, weights, b); },
      [&](Block45* b) { RefitFactors45(values, weights, b); });
  (void)Store45(five, block, out);
}

void SearchedQ6K(const float* values, std::span<const float> weights, std::byte* out) {
  std::array<float, kSubs6> scales = {};
  for (size_t j = 0; j < kSubs6; ++j) {
    scales[j] = FitScale(Sub(values + j * 16, 16), weights.subspan(j * 16, 16), kCodesQ6, nullptr).scale;
  }
  const Block6 block = Refine(
      RoundScales(scales), [&](Block6* b) { return ChooseScales6(values, weights, b); },
      [&](Block6* b) { RefitFactor6(values, weights, b); });
  (void)Store6(block, out);
}

}  // namespace gateskip
