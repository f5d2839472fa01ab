// SPDX-License-Identifier: Apache-2.0
// The scale (and offset) of a block of numbers whose stored codes come nearest to them: a search over clipped ranges,
// each refined by weighted least squares, as make_qx_quants and make_qkx2_quants of ggml (ggml-quants.c) do with other
// ranges. What is minimised is sum_i weight_i (value_i - stored_i)^2.
#pragma once

#include <cstddef>
#include <span>

namespace gateskip {

// stored = scale * code + minimum, code in [lowest, highest].
struct BlockFit {
  float scale = 0;
  float minimum = 0;
};

struct CodeRange {
  int lowest;
  int highest;
};

// How a scale or minimum changes when it is stored, FloatToHalf and back, or null where it is not stored by itself.
using StoredAs = float (*)(float value);

inline constexpr size_t kMaxFitValues = 32;

// The nearest codes of `values` (at most kMaxFitValues), and their weighted error.
double Encode(std::span<const float> values, std::span<const float> weights, BlockFit fit, CodeRange range, int* codes);

// No minimum: the scale may be negative, so that the larger half of an uneven range takes the largest magnitude.
BlockFit FitScale(std::span<const float> values, std::span<const float> weights, CodeRange range, StoredAs stored_as);

// Codes start at 0. `non_positive`: the minimum is at most 0, and the scale at least.
BlockFit FitAffine(std::span<const float> values, std::span<const float> weights, CodeRange range, bool non_positive,
                   StoredAs stored_as);

}  // namespace gateskip
