// SPDX-License-Identifier: Apache-2.0
// A named, read-only tensor inside somebody else's memory (a mapped file, usually).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace gateskip {

struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  // Row-major, slowest first: a linear layer's weight is [out_features, in_features]. (GGUF stores the
  // reverse order; the reader turns it round.) Quantisation blocks run along the last dimension.
  std::vector<int64_t> shape;
  std::span<const std::byte> data;

  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

}  // namespace gateskip
