// SPDX-License-Identifier: Apache-2.0
// f32 to stored formats: the inverse of tensor/dequantize.h for the formats gateskip writes. Blocks come out as those
// of ggml's reference quantisers (quantize_row_*_ref in ggml-quants.c), bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace gateskip {

// F32, F16, BF16, Q8_0, Q4_0 and Q4_1.
bool CanQuantize(DType dtype);

// values.size() elements, whole blocks, into StorageBytes(dtype, values.size()) bytes of `out`. False, with `out`
// unspecified, when a value is not finite or would not be in this format (F16 and the scales of blocks end at 65504).
// Throws Error(kInternal) on a size mismatch or a format it has not.
[[nodiscard]] bool Quantize(DType dtype, std::span<const float> values, std::span<std::byte> out);

uint16_t FloatToBf16(float value);  // round to nearest even

}  // namespace gateskip
