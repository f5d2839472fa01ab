// SPDX-License-Identifier: Apache-2.0
// Where a weight lies in a PackedMatrix, and the table of functions one CPU target provides.
//
// A panel holds kPanelRows output rows. Integer codes of a panel, per K block of 32 and group of 4 consecutive k:
// one vector of kPanelRows x 4 unsigned codes, row-major in the vector, so that one dot-product instruction
// multiplies 16 rows by the same 4 activations. kU4 packs group g in the low and group g + 4 in the high nibbles.
// Float layouts: [panel][k][kPanelRows].
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace gateskip::kernels {

inline constexpr size_t kPanelRows = 16;
inline constexpr size_t kBlock = 32;     // K elements per integer block
inline constexpr size_t kSubBlock = 16;  // K elements per activation sum, and per scale of kU8x16
inline constexpr size_t kGroup = 4;      // consecutive k of one dot-product lane
inline constexpr size_t kU4BlockBytes = kPanelRows * kBlock / 2;
inline constexpr size_t kU8BlockBytes = kPanelRows * kBlock;

constexpr size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr size_t NumPanels(size_t rows) { return RoundUp(rows, kPanelRows) / kPanelRows; }
constexpr size_t NumBlocks(size_t cols) { return RoundUp(cols, kBlock) / kBlock; }
constexpr bool IsIntegerLayout(PackedLayout layout) { return layout <= PackedLayout::kU8x16; }

// One product restricted to some panels, as plain pointers: what a target's kernel sees. The kernels are compiled
// once per target and must not instantiate shared inline code, so no containers here.
struct IntegerTask {
  const uint8_t* codes;
  const void* scales;
  const void* offsets;  // nullptr = none
  PackedLayout layout;
  bool half_scales;
  int32_t zero;
  size_t out_rows;    // valid output features
  size_t num_blocks;  // of K
  size_t panel_begin, panel_end;
  const int8_t* x;             // [num_rows, num_blocks * 32]
  const float* x_scales;       // [num_rows, num_blocks]
  const int32_t* x_sums;       // [num_rows, num_blocks * 2]
  const float* x_scaled_sums;  // [num_rows, num_blocks]
  size_t num_rows;
  float* out;
  size_t out_stride;
};

// Where one row of PackedRows goes.
struct QuantizedRow {
  int8_t* codes;       // [cols padded to 32]
  float* scales;       // [blocks]
  int32_t* sums;       // [2 * blocks]
  float* scaled_sums;  // [blocks]
};

struct FloatTask {
  const void* weights;
  PackedLayout layout;
  size_t out_rows, cols;
  size_t panel_begin, panel_end;
  const float* const* x;  // [num_rows] row pointers
  size_t num_rows;
  float* out;
  size_t out_stride;
  bool accumulate;  // out += scale * result instead of out = result
  float scale;
};

// A query is one head of one row. How many an attend works on at a time: 12 score lists of 512 positions and a page of
// keys and values are what a first-level cache holds.
inline constexpr size_t kAttentionQueries = 12;

// Where the parts of one KV head are within its share of a page's layer, in bytes: keys first, transposed
// ([head_dim][kKvPagePositions]: a vector covers 16 positions, no horizontal sums), then values
// ([kKvPagePositions][head_dim]). kQ8 has scales of both in the same order, a block of kBlock elements standing for
// one.
struct KvHeadLayout {
  size_t values;
  size_t key_scales, value_scales;  // kQ8 only
  size_t bytes;                     // of the whole head
};
KvHeadLayout LayoutOfKvHead(const KvShape& shape);

// Some rows of one sequence, which have `pages` and `source` in common, and one KV head.
struct AttentionTask {
  const AttentionShape* shape;
  KvHeadLayout head;
  size_t layer;
  size_t layer_bytes;
  const AttentionRow* rows;
  size_t num_rows;
  size_t kv_head;
  float* scores;        // scratch: [kAttentionQueries][positions from the first page to the last, whole pages]
  float* blended_keys;  // scratch: [head_dim][kKvPagePositions]
};

struct KernelTable {
  CpuTarget target;
  void (*integer_matmul)(const IntegerTask& task);
  void (*float_matmul)(const FloatTask& task);
  void (*quantize_row)(const float* x, size_t cols, const QuantizedRow& out);
  void (*rms_norm)(const float* x, const float* weight, size_t n, float eps, float* out);
  float (*dot)(const float* a, const float* b, size_t n);
  void (*gated_silu)(float* gate, const float* up, size_t n);
  void (*gated_gelu)(float* gate, const float* up, size_t n);
  void (*sigmoid)(const float* logits, const float* bias, size_t n, float* out);
  void (*add)(const float* x, size_t n, float* y);                             // y += x
  void (*add_scaled)(const float* x, float scale, size_t n, float* y);         // y += scale * x
  void (*add_product)(const float* x, const float* gate, size_t n, float* y);  // y += gate * x
  // Rotates one head by [cos, sin] of n angles each.
  void (*rope)(float* head, RopeLayout layout, const float* cosine, const float* sine, size_t n);
  void (*to_half)(const float* x, size_t n, uint16_t* out);    // round to nearest even
  double (*sum_exp)(const float* x, size_t n, float largest);  // sum of exp(x - largest)
  size_t (*arg_max)(const float* x, size_t n);
  void (*attend)(const AttentionTask& task);
  uint64_t (*dot_products)(size_t rounds);  // RunDotProducts
};

const KernelTable& ActiveKernels();
const KernelTable& ScalarKernels();  // ref/scalar_kernels.cc: the definition
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
const KernelTable& Avx512VnniKernels();

}  // namespace gateskip::kernels
