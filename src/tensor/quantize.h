// SPDX-License-Identifier: Apache-2.0
// f32 to stored formats: the inverse of tensor/dequantize.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace gateskip {

// values.size() elements, whole blocks, into StorageBytes(dtype, values.size()) bytes of `out`. Each block's range
// follows from its extremes alone: Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 come out as of ggml's reference quantisers
// (quantize_row_*_ref in ggml-quants.c), bit for bit; the K formats' are coarser than ggml's, which search.
// False, with `out` unspecified, when a value is not finite or would not be in this format (F16 and the scales of
// blocks end at 65504). Throws Error(kInternal) on a size mismatch.
[[nodiscard]] bool Quantize(DType dtype, std::span<const float> values, std::span<std::byte> out);

// The same with scales searched for (tensor/block_fit.h) that minimise, block by block,
// sum_i weight_i (value_i - stored_i)^2; never more than what Quantize leaves. `weights`: [values.size()], finite and
// >= 0; empty: all 1. The same as Quantize for formats without blocks.
[[nodiscard]] bool QuantizeSearched(DType dtype, std::span<const float> values, std::span<const float> weights,
                                    std::span<std::byte> out);

uint16_t FloatToBf16(float value);  // round to nearest even

}  // namespace gateskip
