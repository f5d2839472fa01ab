// SPDX-License-Identifier: Apache-2.0
#include "tensor/block_fit.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr int kRefinements = 2;

// To the nearest whole number; magnitudes below 2^22. Unlike std::round it is one vector addition and subtraction.
float Nearest(float value) {
  constexpr float kShift = 0x1.8p23F;
  return (value + kShift) - kShift;
}

struct Block {
  std::span<const float> x;
  std::span<const float> w;
  CodeRange range;
};

// Weighted moments of a block and the codes q that a fit gives it.
struct Moments {
  float error = 0;
  float w = 0, wq = 0, wqq = 0, wx = 0, wxq = 0;
};

Moments Measure(const Block& b, BlockFit fit) {
  const auto low = static_cast<float>(b.range.lowest);
  const auto high = static_cast<float>(b.range.highest);
  const float inverse = 1.0F / fit.scale;
  Moments m;
  for (size_t i = 0; i < b.x.size(); ++i) {
    const float q = Nearest(std::clamp((b.x[i] - fit.minimum) * inverse, low, high));
    const float off = b.x[i] - (fit.scale * q + fit.minimum);
    const float w = b.w[i];
    m.error += w * off * off;
    m.w += w;
    m.wq += w * q;
    m.wqq += w * q * q;
    m.wx += w * b.x[i];
    m.wxq += w * b.x[i] * q;
  }
  return m;
}

bool Usable(BlockFit fit) {
  return fit.scale != 0.0F && std::isfinite(1.0F / fit.scale) && std::isfinite(fit.scale) && std::isfinite(fit.minimum);
}

// Follows a start downhill: codes for the fit, then the best fit for those codes. `refit` may return no usable fit.
template <typename Refit>
void Descend(const Block& block, BlockFit start, StoredAs stored_as, const Refit& refit, BlockFit* best, float* error) {
  BlockFit fit = start;
  for (int round = 0; round <= kRefinements; ++round) {
    if (stored_as != nullptr) fit = {stored_as(fit.scale), stored_as(fit.minimum)};
    if (!Usable(fit)) return;
    const Moments moments = Measure(block, fit);
    if (moments.error < *error) {
      *error = moments.error;
      *best = fit;
    }
    fit = refit(moments);
  }
}

}  // namespace

double Encode(std::span<const float> values, std::span<const float> weights, BlockFit fit, CodeRange range,
              int* codes) {
  const float inverse = Usable(fit) ? 1.0F / fit.scale : 0.0F;
  double error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const float q = Nearest(std::clamp((values[i] - fit.minimum) * inverse, static_cast<float>(range.lowest),
                                       static_cast<float>(range.highest)));
    codes[i] = static_cast<int>(q);
    const double off = static_cast<double>(values[i]) - static_cast<double>(fit.scale * q + fit.minimum);
    error += static_cast<double>(weights[i]) * off * off;
  }
  return error;
}

BlockFit FitScale(std::span<const float> values, std::span<const float> weights, CodeRange range, StoredAs stored_as) {
  GS_CHECK(values.size() <= kMaxFitValues && values.size() == weights.size());
  float largest = 0;
  for (const float v : values) largest = std::fabs(v) > std::fabs(largest) ? v : largest;
  BlockFit best;
  float error = HUGE_VALF;
  const auto refit = [](const Moments& m) { return BlockFit{m.wqq > 0.0F ? m.wxq / m.wqq : 0.0F, 0.0F}; };
  // The code that the largest value gets, were there room for it: below the end leaves room, above it clips.
  for (const int end : {range.lowest, range.highest}) {
    for (float beyond = -1.2F; beyond < 3.1F; beyond += 0.2F) {
      const float code = static_cast<float>(end) + (end < 0 ? -beyond : beyond);
      Descend({values, weights, range}, {largest / code, 0.0F}, stored_as, refit, &best, &error);
    }
  }
  return best;
}

BlockFit FitAffine(std::span<const float> values, std::span<const float> weights, CodeRange range, bool non_positive,
                   StoredAs stored_as) {
  GS_CHECK(values.size() <= kMaxFitValues && values.size() == weights.size() && range.lowest == 0);
  const auto [low_at, high_at] = std::ranges::minmax(values);
  const float low = non_positive ? std::min(low_at, 0.0F) : low_at;
  const float high = non_positive ? std::max(high_at, 0.0F) : high_at;
  const auto refit = [non_positive](const Moments& m) {
    const float determinant = m.w * m.wqq - m.wq * m.wq;
    BlockFit fit;
    if (determinant > 0.0F) {
      fit.scale = (m.w * m.wxq - m.wx * m.wq) / determinant;
      fit.minimum = (m.wqq * m.wx - m.wq * m.wxq) / determinant;
    }
    if (non_positive && fit.minimum > 0.0F) fit = {m.wqq > 0.0F ? m.wxq / m.wqq : 0.0F, 0.0F};
    if (non_positive && fit.scale < 0.0F) fit = {};
    return fit;
  };
  BlockFit best;
  float error = HUGE_VALF;
  // Ranges whose ends are cut off by these shares, or widened.
  constexpr std::array<float, 5> kCuts = {-0.03F, 0.0F, 0.03F, 0.07F, 0.12F};
  for (const float below : kCuts) {
    for (const float above : kCuts) {
      float from = low + below * (high - low);
      const float to = high - above * (high - low);
      if (non_positive) from = std::min(from, 0.0F);
      const float scale = (to - from) / static_cast<float>(range.highest);
      Descend({values, weights, range}, {scale, from}, stored_as, refit, &best, &error);
    }
  }
  return best;
}

}  // namespace gateskip
