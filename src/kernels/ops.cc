// SPDX-License-Identifier: Apache-2.0
// The ops of kernels.h over rows and threads; the arithmetic is in the active target's table.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/packed_layout.h"

namespace gateskip::kernels {
namespace {

std::atomic<uint64_t> weight_bytes_read{0};
std::atomic<uint64_t> product_operations{0};

// Below this many elements a region is not worth waking the team for (about 2 us of one core's vector work).
constexpr size_t kSerialElements = 16384;

// Up to so many rows a product waits for its weights, and runs through the panels one by one; with more it waits for
// the arithmetic, and takes two panels at a time.
constexpr size_t kFewRows = 6;

size_t RowGrain(size_t cols) { return std::max<size_t>(1, kSerialElements / std::max<size_t>(1, cols)); }

void CollectRows(const PackedRows& x, std::vector<const float*>* pointers) {
  pointers->resize(x.num_rows);
  for (size_t i = 0; i < x.num_rows; ++i) {
    (*pointers)[i] = x.source.row(x.rows.empty() ? i : static_cast<size_t>(x.rows[i]));
  }
}

struct PanelRange {
  size_t begin, end;
};

void RunPanels(const PackedRows& x, const float* const* row_pointers, const Product& product, PanelRange panels,
               bool accumulate, float scale) {
  const PackedMatrix& w = *product.weight;
  if (!IsIntegerLayout(w.layout)) {
    ActiveKernels().float_matmul({w.codes.data(), w.layout, w.rows, w.cols, panels.begin, panels.end, row_pointers,
                                  x.num_rows, product.out.data, product.out.stride, accumulate, scale});
    return;
  }
  const size_t blocks = NumBlocks(w.cols);
  ActiveKernels().integer_matmul({reinterpret_cast<const uint8_t*>(w.codes.data()), w.scales.data(),
                                  w.offsets.size() > 0 ? w.offsets.data() : nullptr, w.layout, w.half_scales, w.zero,
                                  w.rows, blocks, panels.begin, panels.end, x.codes.data(), x.scales.data(),
                                  x.sums.data(), x.scaled_sums.data(), x.num_rows, product.out.data,
                                  product.out.stride});
}

// Where thread t of `threads` begins, counted in panels of all products: each gets the same share of what the products
// wait for, so that the panel of a delta beside those of its matrix does not make one thread late.
size_t FirstPanel(std::span<const Product> products, size_t num_rows, size_t t, size_t threads) {
  const bool few = num_rows <= kFewRows;
  const size_t grain = few ? 1 : 2;
  const auto panel_cost = [&](const PackedMatrix& w) { return few ? w.bytes / NumPanels(w.rows) : w.cols; };
  size_t total = 0;
  for (const Product& product : products) total += NumPanels(product.weight->rows) * panel_cost(*product.weight);
  size_t before = total * t / threads;
  size_t first = 0;
  for (const Product& product : products) {
    const size_t panels = NumPanels(product.weight->rows);
    const size_t cost = panel_cost(*product.weight);
    if (before < panels * cost) return first + std::min(panels, (before / cost + grain / 2) / grain * grain);
    before -= panels * cost;
    first += panels;
  }
  return first;
}

void MatMulInto(const PackedRows& x, std::span<const Product> products, bool accumulate, float scale,
                ThreadPool& pool) {
  if (x.num_rows == 0) return;
  size_t total = 0;
  uint64_t bytes = 0;
  uint64_t elements = 0;
  bool any_float = false;
  for (const Product& product : products) {
    GS_CHECK(product.weight->cols == x.cols && product.out.rows == x.num_rows &&
             product.out.cols == product.weight->rows);
    GS_CHECK(!IsIntegerLayout(product.weight->layout) || (x.quantized && !accumulate));
    total += NumPanels(product.weight->rows);
    bytes += product.weight->bytes;
    elements += product.weight->rows * product.weight->cols;
    any_float |= !IsIntegerLayout(product.weight->layout);
  }
  weight_bytes_read.fetch_add(bytes, std::memory_order_relaxed);
  product_operations.fetch_add(2 * elements * x.num_rows, std::memory_order_relaxed);
  thread_local std::vector<const float*> pointers;
  if (any_float) CollectRows(x, &pointers);
  const float* const* row_pointers = pointers.data();
  const auto run = [&](size_t begin, size_t end) {
    size_t first = 0;
    for (const Product& product : products) {
      const size_t count = NumPanels(product.weight->rows);
      const size_t from = std::max(begin, first);
      const size_t to = std::min(end, first + count);
      if (from < to) RunPanels(x, row_pointers, product, {from - first, to - first}, accumulate, scale);
      first += count;
    }
  };
  if (total * kPanelRows * x.cols * x.num_rows <= kSerialElements) {
    run(0, total);
  } else {
    const auto threads = static_cast<size_t>(pool.num_threads());
    pool.Run([&](int thread) {
      const auto t = static_cast<size_t>(thread);
      run(FirstPanel(products, x.num_rows, t, threads), FirstPanel(products, x.num_rows, t + 1, threads));
    });
  }
}

}  // namespace

uint64_t WeightBytesRead() { return weight_bytes_read.load(std::memory_order_relaxed); }
uint64_t ProductOperations() { return product_operations.load(std::memory_order_relaxed); }
uint64_t RunDotProducts(size_t rounds) { return ActiveKernels().dot_products(rounds); }

void PackRows(ConstMatrixView source, std::span<const int32_t> rows, bool quantize, PackedRows* out, ThreadPool& pool) {
  out->source = source;
  out->rows = rows;
  out->num_rows = rows.empty() ? source.rows : rows.size();
  out->cols = source.cols;
  out->quantized = quantize;
  if (!quantize) return;
  const size_t blocks = NumBlocks(source.cols);
  out->codes.ReserveDiscarding(out->num_rows * blocks * kBlock);
  out->scales.ReserveDiscarding(out->num_rows * blocks);
  out->sums.ReserveDiscarding(out->num_rows * blocks * 2);
  out->scaled_sums.ReserveDiscarding(out->num_rows * blocks);
  pool.ParallelFor(out->num_rows, RowGrain(source.cols), [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const size_t row = rows.empty() ? i : static_cast<size_t>(rows[i]);
      ActiveKernels().quantize_row(source.row(row), source.cols,
                                   {.codes = out->codes.data() + i * blocks * kBlock,
                                    .scales = out->scales.data() + i * blocks,
                                    .sums = out->sums.data() + i * blocks * 2,
                                    .scaled_sums = out->scaled_sums.data() + i * blocks});
    }
  });
}

void MatMul(const PackedRows& x, std::span<const Product> products, ThreadPool& pool) {
  MatMulInto(x, products, false, 1.0F, pool);
}

void AddScaledProduct(ConstMatrixView x, const PackedMatrix& weight, float scale, MatrixView y, ThreadPool& pool) {
  PackedRows rows;
  PackRows(x, {}, false, &rows, pool);
  const Product product = {&weight, y};
  MatMulInto(rows, {&product, 1}, true, scale, pool);
}

void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps, MatrixView out, ThreadPool& pool) {
  GS_CHECK(weight.size() == x.cols && out.cols == x.cols && out.rows == x.rows);
  pool.ParallelFor(x.rows, RowGrain(x.cols), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) ActiveKernels().rms_norm(x.row(r), weight.data(), x.cols, eps, out.row(r));
  });
}

void RmsNormHeads(MatrixView x, size_t head_dim, std::span<const float> weight, float eps, ThreadPool& pool) {
  GS_CHECK(weight.size() == head_dim && x.cols % head_dim == 0);
  pool.ParallelFor(x.rows, RowGrain(x.cols), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      for (size_t c = 0; c < x.cols; c += head_dim) {
        ActiveKernels().rms_norm(x.row(r) + c, weight.data(), head_dim, eps, x.row(r) + c);
      }
    }
  });
}

void DotRows(ConstMatrixView x, std::span<const float> weight, float bias, std::span<float> scores, ThreadPool& pool) {
  GS_CHECK(weight.size() == x.cols && scores.size() >= x.rows);
  pool.ParallelFor(x.rows, RowGrain(x.cols), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) scores[r] = ActiveKernels().dot(x.row(r), weight.data(), x.cols) + bias;
  });
}

void SigmoidMeanRows(ConstMatrixView logits, std::span<const float> bias, std::span<float> importance,
                     MatrixView* gates, ThreadPool& pool) {
  GS_CHECK(bias.size() == logits.cols && importance.size() >= logits.rows);
  pool.ParallelFor(logits.rows, RowGrain(logits.cols), [&](size_t begin, size_t end, int) {
    std::vector<float> own(gates == nullptr ? logits.cols : 0);
    for (size_t r = begin; r < end; ++r) {
      float* values = gates == nullptr ? own.data() : gates->row(r);
      ActiveKernels().sigmoid(logits.row(r), bias.data(), logits.cols, values);
      double sum = 0;
      for (size_t i = 0; i < logits.cols; ++i) sum += values[i];
      importance[r] = static_cast<float>(sum / static_cast<double>(logits.cols));
    }
  });
}

void RopeTable::Cover(int32_t position) {
  const size_t n = inv_freq_.size();
  for (size_t p = table_.size() / std::max<size_t>(1, 2 * n); p <= static_cast<size_t>(position); ++p) {
    table_.resize((p + 1) * 2 * n);
    for (size_t i = 0; i < n; ++i) {
      const double angle = static_cast<float>(p) * inv_freq_[i];  // rounded to f32, as the reference engines do
      table_[p * 2 * n + i] = static_cast<float>(std::cos(angle));
      table_[p * 2 * n + n + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void Rope(MatrixView x, size_t head_dim, RopeLayout layout, const RopeTable& table, std::span<const int32_t> positions,
          ThreadPool& pool) {
  const size_t n = table.inv_freq().size();
  GS_CHECK(positions.size() == x.rows && 2 * n <= head_dim && x.cols % head_dim == 0);
  pool.ParallelFor(x.rows, RowGrain(x.cols), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      const float* cosine = table.Row(positions[r]);
      for (float* head = x.row(r); head < x.row(r) + x.cols; head += head_dim) {
        ActiveKernels().rope(head, layout, cosine, cosine + n, n);
      }
    }
  });
}

void GatedActivation(Activation activation, MatrixView gate, ConstMatrixView up, ThreadPool& pool) {
  GS_CHECK(gate.rows == up.rows && gate.cols == up.cols);
  const auto apply = activation == Activation::kSilu ? ActiveKernels().gated_silu : ActiveKernels().gated_gelu;
  pool.ParallelFor(gate.rows, RowGrain(gate.cols), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) apply(gate.row(r), up.row(r), gate.cols);
  });
}

void ScatterAdd(ConstMatrixView branch, std::span<const int32_t> rows, const ConstMatrixView* gates, MatrixView x,
                ThreadPool& pool) {
  GS_CHECK(branch.cols == x.cols && (rows.empty() ? branch.rows == x.rows : branch.rows == rows.size()));
  GS_CHECK(gates == nullptr || (gates->rows == branch.rows && (gates->cols == 1 || gates->cols == x.cols)));
  const KernelTable& kernels = ActiveKernels();
  pool.ParallelFor(branch.rows, RowGrain(x.cols), [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      float* destination = x.row(rows.empty() ? i : static_cast<size_t>(rows[i]));
      if (gates == nullptr) {
        kernels.add(branch.row(i), x.cols, destination);
      } else if (gates->cols == 1) {
        kernels.add_scaled(branch.row(i), *gates->row(i), x.cols, destination);
      } else {
        kernels.add_product(branch.row(i), gates->row(i), x.cols, destination);
      }
    }
  });
}

float LogSumExp(std::span<const float> x) {
  GS_CHECK(!x.empty());
  const float largest = x[ArgMax(x)];
  if (!std::isfinite(largest)) return largest;
  return largest + static_cast<float>(std::log(ActiveKernels().sum_exp(x.data(), x.size(), largest)));
}

size_t ArgMax(std::span<const float> x) {
  GS_CHECK(!x.empty());
  return ActiveKernels().arg_max(x.data(), x.size());
}

}  // namespace gateskip::kernels
