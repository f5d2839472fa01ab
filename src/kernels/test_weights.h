// SPDX-License-Identifier: Apache-2.0
// Random stored tensors of every format, for tests and benchmarks only: codes are random bits, scales are finite
// and of ordinary size.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tensor/dequantize.h"
#include "tensor/tensor_view.h"

namespace gateskip::kernels {

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float deviation = 1.0F) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// Owns its bytes; view() is a weight of shape [rows, cols].
class RandomTensor {
 public:
  RandomTensor(DType dtype, size_t rows, size_t cols, uint32_t seed) : dtype_(dtype), rows_(rows), cols_(cols) {
    bytes_.resize(*StorageBytes(dtype, rows * cols));
    std::mt19937 generator(seed);
    for (std::byte& byte : bytes_) byte = static_cast<std::byte>(generator() & 0xFF);
    switch (dtype) {
      case DType::kF32:
      case DType::kF16:
      case DType::kBF16:
        FillFloats(seed);
        break;
      case DType::kQ6_K:
        FillScale(208, 0.0005F, &generator);
        break;
      case DType::kQ4_0:
      case DType::kQ5_0:
      case DType::kQ8_0:
        FillScale(0, 0.02F, &generator);
        break;
      case DType::kQ4_1:
      case DType::kQ5_1:
        FillScale(0, 0.02F, &generator);
        FillScale(2, 0.15F, &generator);
        break;
      case DType::kQ4_K:
      case DType::kQ5_K:
        FillScale(0, 0.001F, &generator);
        FillScale(2, 0.01F, &generator);
        break;
    }
  }

  TensorView view() const {
    return {std::string(GetDTypeInfo(dtype_).name),
            dtype_,
            {static_cast<int64_t>(rows_), static_cast<int64_t>(cols_)},
            bytes_};
  }

 private:
  void FillFloats(uint32_t seed) {
    const std::vector<float> values = RandomFloats(rows_ * cols_, seed, 0.1F);
    for (size_t i = 0; i < values.size(); ++i) {
      const auto bits = std::bit_cast<uint32_t>(values[i]);
      const auto narrow = dtype_ == DType::kF16 ? FloatToHalf(values[i]) : static_cast<uint16_t>(bits >> 16);
      if (dtype_ == DType::kF32) {
        std::memcpy(bytes_.data() + i * 4, &bits, 4);
      } else {
        std::memcpy(bytes_.data() + i * 2, &narrow, 2);
      }
    }
  }

  // An f16 of either sign at `offset` of every block.
  void FillScale(size_t offset, float largest, std::mt19937* generator) {
    std::uniform_real_distribution<float> uniform(-largest, largest);
    for (size_t at = offset; at < bytes_.size(); at += GetDTypeInfo(dtype_).block_bytes) {
      const uint16_t half = FloatToHalf(uniform(*generator));
      std::memcpy(bytes_.data() + at, &half, 2);
    }
  }

  DType dtype_;
  size_t rows_, cols_;
  std::vector<std::byte> bytes_;
};

}  // namespace gateskip::kernels
