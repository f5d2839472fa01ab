// SPDX-License-Identifier: Apache-2.0
// Block formats to f32: the slow, exact definition that everything else is tested against.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace gateskip {

// out.size() elements, whole blocks, from `blocks`. Throws Error(kInternal) on a size mismatch.
void Dequantize(DType dtype, std::span<const std::byte> blocks, std::span<float> out);

// Row r of a matrix [rows, cols] (rank 1 counts as one row) into out[cols].
void DequantizeRow(const TensorView& tensor, size_t r, std::span<float> out);

float HalfToFloat(uint16_t bits);   // IEEE binary16
uint16_t FloatToHalf(float value);  // round to nearest even
inline float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace gateskip
