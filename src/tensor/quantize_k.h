// SPDX-License-Identifier: Apache-2.0
// Super-blocks of 256 elements whose sub-blocks have integer scales: Q4_K, Q5_K and Q6_K (layout: ggml-common.h).
// Part of tensor/quantize.h, whose functions check sizes and values.
#pragma once

#include <cstddef>
#include <span>

namespace gateskip {

inline constexpr size_t kSuperBlock = 256;
inline constexpr size_t kMaxBlockBytes = 256;  // of any format

// Ranges from the extremes of each sub-block. False when a scale is not finite in f16.
bool PlainQ45K(bool five, const float* values, std::byte* out);
bool PlainQ6K(const float* values, std::byte* out);

// Ranges that leave a small weighted squared error; what they store need not be finite.
void SearchedQ45K(bool five, const float* values, std::span<const float> weights, std::byte* out);
void SearchedQ6K(const float* values, std::span<const float> weights, std::byte* out);

}  // namespace gateskip
