// SPDX-License-Identifier: Apache-2.0
// The contract of every op. ref/ is the scalar definition, simd/ the fast path chosen at run time; both are
// tested against each other. Callers never see an instruction set.
//
// Row invariance: the bits of a result row depend on that row's inputs and the weights only. They never depend
// on how many rows are in the call, where the row stands, or how many threads run (laws L4-L6): every output
// element is reduced over K in one fixed order, and threads split outputs only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "tensor/matrix.h"
#include "tensor/tensor_view.h"

namespace gateskip::kernels {

// ---------------------------------------------------------------------------------------------- dispatch
enum class CpuTarget { kScalar, kAvx2, kAvx512, kAvx512Vnni };
std::string_view CpuTargetName(CpuTarget target);
std::vector<CpuTarget> SupportedCpuTargets();  // on this machine, slowest first
CpuTarget ActiveCpuTarget();                   // the fastest supported one unless forced
void ForceCpuTarget(CpuTarget target);         // tests and --cpu-target; Error(kUnsupported) when not attainable.
                                               // Affects matrices packed afterwards; call it before packing.

// ------------------------------------------------------------------------------------------- linear layers
enum class PackFormat : uint8_t {
  kNative,  // keep the stored precision: 4/5/6/8-bit blocks run as integer dot products, F32/F16/BF16 in f32
  kF32,     // dequantise to f32 and multiply in f32: the exact path
  kQ8,      // quantise to 8-bit blocks of 32 (from any source)
  kQ4,      // quantise to 4-bit blocks of 32 with an offset each (from any source), as ggml's Q4_1
};

// Weights [out, in] repacked once, at load, into the layout the dot products of this machine want: panels of
// kPanelRows output rows, interleaved along K (packed_layout.h).
enum class PackedLayout : uint8_t {
  kU4,     // 4-bit codes, blocks of 32
  kU8,     // 8-bit unsigned codes, blocks of 32
  kU8x16,  // 8-bit unsigned codes, blocks of 16 (Q6_K)
  kF32,
  kF16,
  kBF16,
};

class PackedMatrix {
 public:
  size_t rows = 0;   // out features
  size_t cols = 0;   // in features
  size_t bytes = 0;  // read by one product: codes, scales, offsets
  // Filled by PackWeights, read by MatMul only. An integer weight is scale * (code - zero) + offset.
  PackedLayout layout = PackedLayout::kF32;
  bool half_scales = false;  // scales and offsets are f16, else f32
  int32_t zero = 0;
  AlignedBuffer<std::byte> codes;
  AlignedBuffer<std::byte> scales;   // [panels][blocks][kPanelRows]
  AlignedBuffer<std::byte> offsets;  // same, empty = none
};

// weight.shape is [out, in]. Any DType, any out >= 1; `in` as the block format demands (F32/F16/BF16: any).
// Throws Error(kUnsupported) for a combination that cannot be packed, Error(kCorruptData) for numbers that the blocks
// asked for cannot hold.
PackedMatrix PackWeights(const TensorView& weight, PackFormat format, ThreadPool& pool);

// The rows a branch runs on, gathered and quantised (8-bit blocks of 32 with block sums) for integer products.
// Keeps a reference to the f32 source for f32 products: `source` must outlive the PackedRows' use.
class PackedRows {
 public:
  size_t num_rows = 0;  // after gathering
  size_t cols = 0;
  ConstMatrixView source;         // [*, cols], before gathering
  std::span<const int32_t> rows;  // gathered rows of source; empty means all, in order
  // Quantised form: [num_rows, cols padded to 32] codes, and per block of 16 the sum of the codes; per block of 32
  // the scale, and the scale times the block's sum (what an offset of the weights is multiplied by).
  AlignedBuffer<int8_t> codes;
  AlignedBuffer<int32_t> sums;
  AlignedBuffer<float> scales;
  AlignedBuffer<float> scaled_sums;
  bool quantized = false;
};

// Gathers source rows `rows` (empty span: all rows) and, if `quantize`, quantises each on its own.
void PackRows(ConstMatrixView source, std::span<const int32_t> rows, bool quantize, PackedRows* out, ThreadPool& pool);

// out[i, :] = weight * x[i, :] for every packed row i.
struct Product {
  const PackedMatrix* weight;
  MatrixView out;  // [x.num_rows, weight->rows]
};
// All products share the input and run in one parallel region (QKV; gate and up; a matrix and the first factor of its
// delta).
void MatMul(const PackedRows& x, std::span<const Product> products, ThreadPool& pool);

// y[i, :] += scale * weight * x[i, :], float layouts only: the second factor of a LoRA delta (arXiv 2106.09685).
void AddScaledProduct(ConstMatrixView x, const PackedMatrix& weight, float scale, MatrixView y, ThreadPool& pool);

// ------------------------------------------------------------------------------------------- per-row ops
// out = x / sqrt(mean(x^2) + eps) * weight, row by row (arXiv 1910.07467). out may alias x.
void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps, MatrixView out, ThreadPool& pool);

// Same, on each head_dim-long slice of every row (QK norm of Gemma 3). In place.
void RmsNormHeads(MatrixView x, size_t head_dim, std::span<const float> weight, float eps, ThreadPool& pool);

// scores[i] = dot(x row i, weight) + bias: the scalar gate's logit. x [rows, d], weight [d].
void DotRows(ConstMatrixView x, std::span<const float> weight, float bias, std::span<float> scores, ThreadPool& pool);

// importance[i] = mean_j sigmoid(logits[i, j] + bias[j]); if `gates` is given it receives the sigmoids.
void SigmoidMeanRows(ConstMatrixView logits, std::span<const float> bias, std::span<float> importance,
                     MatrixView* gates, ThreadPool& pool);

enum class RopeLayout { kInterleaved, kHalves };  // pairs (2i, 2i+1) | (i, i + n/2)
// Sines and cosines of position * inv_freq[i], computed once per position.
class RopeTable {
 public:
  explicit RopeTable(std::vector<float> inv_freq) : inv_freq_(std::move(inv_freq)) {}
  const std::vector<float>& inv_freq() const { return inv_freq_; }
  void Cover(int32_t position);  // makes Row(position) valid; not while others read
  // [cos of every frequency, then sin of every frequency]
  const float* Row(int32_t position) const {
    return table_.data() + static_cast<size_t>(position) * 2 * inv_freq_.size();
  }

 private:
  std::vector<float> inv_freq_;
  std::vector<float> table_;
};
// Rotates the first 2 * inv_freq.size() elements of every head of every row by position * inv_freq[i]
// (arXiv 2104.09864). x [rows, heads * head_dim], in place; the table covers the positions.
void Rope(MatrixView x, size_t head_dim, RopeLayout layout, const RopeTable& table, std::span<const int32_t> positions,
          ThreadPool& pool);

enum class Activation { kSilu, kGeluTanh };
// gate = activation(gate) * up, elementwise (SwiGLU / GeGLU, arXiv 2002.05202).
void GatedActivation(Activation activation, MatrixView gate, ConstMatrixView up, ThreadPool& pool);

// The gated scatter-add of the residual stream: x[rows[i], :] += branch[i, :] * gate, where gate is 1 (gates
// empty), one value per row ([n, 1]), or a vector ([n, d]). rows empty means all, in order.
void ScatterAdd(ConstMatrixView branch, std::span<const int32_t> rows, const ConstMatrixView* gates, MatrixView x,
                ThreadPool& pool);

// log(sum(exp(x))) with a fixed order, and the index of the maximum (lowest index wins ties).
float LogSumExp(std::span<const float> x);
size_t ArgMax(std::span<const float> x);

// ----------------------------------------------------------------------------------------------- attention
enum class KvType : uint8_t {
  kF16,
  kF32,
  kQ8,  // 8-bit codes in blocks of 32 elements of one head, an f32 scale each
};
std::string_view KvTypeName(KvType type);  // "f16", "f32", "q8_0"
struct KvShape {
  size_t num_kv_heads;
  size_t head_dim;
  KvType type;
};
// The cache is paged: a page holds kKvPagePositions consecutive positions of one sequence, for all layers:
// page = [layer][K | V](kernel's own layout inside). One layer of one page takes KvLayerBytes(shape) bytes.
inline constexpr size_t kKvPagePositions = 64;
size_t KvLayerBytes(const KvShape& shape);

// Writes k and v ([num_kv_heads * head_dim], after RoPE) to slot = position % kKvPagePositions.
void StoreKv(const KvShape& shape, std::byte* page_layer, size_t slot, const float* k, const float* v);

inline constexpr uint16_t kKvDropped = 0xFFFF;

struct AttentionRow {
  const float* query;             // [num_heads * head_dim], after RoPE
  float* out;                     // [num_heads * head_dim]
  const std::byte* const* pages;  // pages[p / kKvPagePositions] holds position p
  // source[p] = the layer whose entry position p uses (KV rule `copy`), kKvDropped = not attended to
  // (rule `drop`). nullptr = every position uses this layer's own entry.
  const uint16_t* source;
  int32_t first;  // attends to positions [first, last]; last is the row's own position
  int32_t last;
};
struct AttentionShape {
  KvShape kv;
  size_t num_heads;  // multiple of num_kv_heads; query head h reads KV head h / (num_heads / num_kv_heads)
  float scale;       // of the scores, usually 1/sqrt(head_dim)
};
// softmax(scale * q K^T) V, exact two-pass softmax in position order. Rows are independent of each other.
void Attend(const AttentionShape& shape, size_t layer, std::span<const AttentionRow> rows, ThreadPool& pool);

// ----------------------------------------------------------------------------------------------- counting
// Weight bytes read by MatMul and AddScaledProduct since the process started (each weight matrix counts once per
// call with at least one row), so that "really skipped" can be checked. Relaxed atomic, always on.
uint64_t WeightBytesRead();
// Multiplications and additions of both, likewise.
uint64_t ProductOperations();

// The ceiling of integer products on one thread: `rounds` times a few independent 8-bit dot products out of registers,
// and nothing else. Returns how many multiplications and additions that were.
uint64_t RunDotProducts(size_t rounds);

}  // namespace gateskip::kernels
