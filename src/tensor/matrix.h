// SPDX-License-Identifier: Apache-2.0
// Row-major f32 matrices: an owning one and views. Row counts change from step to step (rows are compacted),
// so an owner keeps its largest capacity and hands out views.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"

namespace gateskip {

template <typename T>
struct BasicMatrixView {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;  // elements from one row to the next, >= cols

  T* row(size_t r) const { return data + r * stride; }
  std::span<T> row_span(size_t r) const { return {row(r), cols}; }
  operator BasicMatrixView<const T>() const { return {data, rows, cols, stride}; }  // NOLINT: a view decays
};
using MatrixView = BasicMatrixView<float>;
using ConstMatrixView = BasicMatrixView<const float>;

class Matrix {
 public:
  // Capacity for max_rows rows; the contents are not initialised.
  void Reserve(size_t max_rows, size_t cols) {
    cols_ = cols;
    buffer_.ReserveDiscarding(max_rows * cols);
  }
  MatrixView View(size_t rows) { return {buffer_.data(), rows, cols_, cols_}; }
  size_t bytes() const { return buffer_.bytes(); }

 private:
  AlignedBuffer<float> buffer_;
  size_t cols_ = 0;
};

// Indices of the rows of a step that a branch runs on, ascending.
using RowList = std::vector<int32_t>;

}  // namespace gateskip
