// SPDX-License-Identifier: Apache-2.0
// The definition of every kernel, one scalar operation at a time, in f32 with std:: functions. Slow on purpose:
// what the fast targets are tested against, and the fallback for machines without them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/packed_layout.h"
#include "tensor/dequantize.h"

namespace gateskip::kernels {
namespace {

float ScaleAt(const void* base, size_t index, bool half) {
  return half ? HalfToFloat(static_cast<const uint16_t*>(base)[index]) : static_cast<const float*>(base)[index];
}

// Code of (lane, k) in one K block of a panel.
int32_t CodeAt(const uint8_t* block, size_t lane, size_t k, bool four_bit) {
  const size_t group = k / kGroup;
  const size_t at = lane * kGroup + k % kGroup;
  if (!four_bit) return block[group * 64 + at];
  return group < 4 ? block[group * 64 + at] & 0x0F : block[(group - 4) * 64 + at] >> 4;
}

void IntegerMatMul(const IntegerTask& t) {
  const bool four_bit = t.layout == PackedLayout::kU4;
  const size_t sub_blocks = t.layout == PackedLayout::kU8x16 ? 2 : 1;
  const size_t per_scale = kBlock / sub_blocks;
  for (size_t row = 0; row < t.num_rows; ++row) {
    for (size_t o = t.panel_begin * kPanelRows; o < std::min(t.out_rows, t.panel_end * kPanelRows); ++o) {
      const size_t panel = o / kPanelRows;
      const size_t lane = o % kPanelRows;
      float acc = 0.0F;
      for (size_t b = 0; b < t.num_blocks; ++b) {
        const size_t cell = panel * t.num_blocks + b;
        const uint8_t* block = t.codes + cell * (four_bit ? kU4BlockBytes : kU8BlockBytes);
        const int8_t* x = t.x + (row * t.num_blocks + b) * kBlock;
        const float x_scale = t.x_scales[row * t.num_blocks + b];
        for (size_t s = 0; s < sub_blocks; ++s) {
          int32_t dot = 0;
          for (size_t k = s * per_scale; k < (s + 1) * per_scale; ++k) {
            dot += (CodeAt(block, lane, k, four_bit) - t.zero) * x[k];
          }
          const float scale = ScaleAt(t.scales, (cell * sub_blocks + s) * kPanelRows + lane, t.half_scales);
          acc += static_cast<float>(dot) * (scale * x_scale);
        }
        if (t.offsets != nullptr) {
          acc += ScaleAt(t.offsets, cell * kPanelRows + lane, t.half_scales) * t.x_scaled_sums[row * t.num_blocks + b];
        }
      }
      t.out[row * t.out_stride + o] = acc;
    }
  }
}

void FloatMatMul(const FloatTask& t) {
  const auto weight = [&](size_t index) {
    switch (t.layout) {
      case PackedLayout::kF16:
        return HalfToFloat(static_cast<const uint16_t*>(t.weights)[index]);
      case PackedLayout::kBF16:
        return Bf16ToFloat(static_cast<const uint16_t*>(t.weights)[index]);
      default:
        return static_cast<const float*>(t.weights)[index];
    }
  };
  for (size_t row = 0; row < t.num_rows; ++row) {
    for (size_t o = t.panel_begin * kPanelRows; o < std::min(t.out_rows, t.panel_end * kPanelRows); ++o) {
      float acc = 0.0F;
      for (size_t k = 0; k < t.cols; ++k) {
        acc += weight(((o / kPanelRows) * t.cols + k) * kPanelRows + o % kPanelRows) * t.x[row][k];
      }
      float& out = t.out[row * t.out_stride + o];
      out = t.accumulate ? out + t.scale * acc : acc;
    }
  }
}

void QuantizeRow(const float* x, size_t cols, const QuantizedRow& out) {
  for (size_t b = 0; b < NumBlocks(cols); ++b) {
    float largest = 0.0F;
    for (size_t k = b * kBlock; k < std::min(cols, (b + 1) * kBlock); ++k) largest = std::max(largest, std::fabs(x[k]));
    const float inverse = largest > 0.0F ? 127.0F / largest : 0.0F;
    out.scales[b] = largest / 127.0F;
    out.sums[2 * b] = out.sums[2 * b + 1] = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      const size_t k = b * kBlock + i;
      out.codes[k] = k < cols ? static_cast<int8_t>(std::nearbyint(x[k] * inverse)) : int8_t{0};
      out.sums[2 * b + i / kSubBlock] += out.codes[k];
    }
    out.scaled_sums[b] = out.scales[b] * static_cast<float>(out.sums[2 * b] + out.sums[2 * b + 1]);
  }
}

float Dot(const float* a, const float* b, size_t n) {
  float sum = 0.0F;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void RmsNorm(const float* x, const float* weight, size_t n, float eps, float* out) {
  const float scale = 1.0F / std::sqrt(Dot(x, x, n) / static_cast<float>(n) + eps);
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

float Sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

void GatedSilu(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; ++i) gate[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

void GatedGelu(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float x = gate[i];
    gate[i] = 0.5F * x * (1.0F + std::tanh(0.7978845608028654F * (x + 0.044715F * x * x * x))) * up[i];
  }
}

void SigmoidRow(const float* logits, const float* bias, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = Sigmoid(logits[i] + bias[i]);
}

void Add(const float* x, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += x[i];
}
void AddScaled(const float* x, float scale, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += scale * x[i];
}
void AddProduct(const float* x, const float* gate, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] += gate[i] * x[i];
}

void RopeHead(float* head, RopeLayout layout, const float* cosine, const float* sine, size_t n) {
  const size_t step = layout == RopeLayout::kInterleaved ? 2 : 1;
  const size_t partner = layout == RopeLayout::kInterleaved ? 1 : n;
  for (size_t i = 0; i < n; ++i) {
    const float a = head[i * step];
    const float b = head[i * step + partner];
    head[i * step] = a * cosine[i] - b * sine[i];
    head[i * step + partner] = a * sine[i] + b * cosine[i];
  }
}

void ToHalf(const float* x, size_t n, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = FloatToHalf(x[i]);
}

double SumExp(const float* x, size_t n, float largest) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(x[i] - largest);
  return sum;
}

size_t ArgMax(const float* x, size_t n) { return static_cast<size_t>(std::max_element(x, x + n) - x); }

template <typename T>
T ReadAt(const std::byte* base, size_t index) {
  T value;
  std::memcpy(&value, base + index * sizeof(T), sizeof(T));
  return value;
}

// Keys or values of a head; `scale` counts blocks (kQ8).
float KvElement(KvType type, const std::byte* elements, size_t index, const std::byte* scales, size_t scale) {
  switch (type) {
    case KvType::kF16:
      return HalfToFloat(ReadAt<uint16_t>(elements, index));
    case KvType::kQ8:
      return static_cast<float>(ReadAt<int8_t>(elements, index)) * ReadAt<float>(scales, scale);
    case KvType::kF32:
      break;
  }
  return ReadAt<float>(elements, index);
}

void AttendRow(const AttentionTask& t, const AttentionRow& row) {
  const AttentionShape& shape = *t.shape;
  const size_t head_dim = shape.kv.head_dim;
  const size_t group = shape.num_heads / shape.kv.num_kv_heads;
  const auto key = [&](const std::byte* head, size_t slot, size_t d) {
    return KvElement(shape.kv.type, head, d * kKvPagePositions + slot, head + t.head.key_scales,
                     d / kBlock * kKvPagePositions + slot);
  };
  const auto value = [&](const std::byte* head, size_t slot, size_t d) {
    return KvElement(shape.kv.type, head + t.head.values, slot * head_dim + d, head + t.head.value_scales,
                     slot * NumBlocks(head_dim) + d / kBlock);
  };
  const auto head_of = [&](int32_t p) -> const std::byte* {
    const uint16_t layer = row.source != nullptr ? row.source[p] : static_cast<uint16_t>(t.layer);
    if (layer == kKvDropped) return nullptr;
    return row.pages[static_cast<size_t>(p) / kKvPagePositions] + layer * t.layer_bytes + t.kv_head * t.head.bytes;
  };
  for (size_t h = t.kv_head * group; h < (t.kv_head + 1) * group; ++h) {
    const float* q = row.query + h * head_dim;
    float* out = row.out + h * head_dim;
    float largest = -INFINITY;
    for (int32_t p = row.first; p <= row.last; ++p) {
      const std::byte* entry = head_of(p);
      const size_t slot = static_cast<size_t>(p) % kKvPagePositions;
      float score = 0.0F;
      for (size_t d = 0; entry != nullptr && d < head_dim; ++d) score += q[d] * key(entry, slot, d);
      t.scores[p - row.first] = entry == nullptr ? -INFINITY : score * shape.scale;
      largest = std::max(largest, t.scores[p - row.first]);
    }
    std::fill(out, out + head_dim, 0.0F);
    if (largest == -INFINITY) continue;
    float sum = 0.0F;
    for (int32_t p = row.first; p <= row.last; ++p) sum += std::exp(t.scores[p - row.first] - largest);
    for (int32_t p = row.first; p <= row.last; ++p) {
      const std::byte* entry = head_of(p);
      if (entry == nullptr) continue;
      const float weight = std::exp(t.scores[p - row.first] - largest) / sum;
      const size_t slot = static_cast<size_t>(p) % kKvPagePositions;
      for (size_t d = 0; d < head_dim; ++d) out[d] += weight * value(entry, slot, d);
    }
  }
}

void Attend(const AttentionTask& t) {
  for (size_t r = 0; r < t.num_rows; ++r) AttendRow(t, t.rows[r]);
}

uint64_t DotProducts(size_t rounds) {
  constexpr size_t kLength = 64;
  uint8_t codes[kLength];
  int8_t x[kLength];
  for (size_t i = 0; i < kLength; ++i) {
    codes[i] = static_cast<uint8_t>(i);
    x[i] = static_cast<int8_t>(i);
  }
  uint32_t sum = 0;  // wraps
  for (size_t round = 0; round < rounds; ++round) {
    __asm__ volatile("" : : "r"(codes), "r"(x) : "memory");  // neither is known in advance
    for (size_t i = 0; i < kLength; ++i) sum += static_cast<uint32_t>(codes[i] * x[i]);
  }
  __asm__ volatile("" : : "r"(sum));
  return static_cast<uint64_t>(rounds) * 2 * kLength;
}

}  // namespace

const KernelTable& ScalarKernels() {
  static constexpr KernelTable kTable = {
      CpuTarget::kScalar, IntegerMatMul, FloatMatMul, QuantizeRow, RmsNorm,   Dot,
      GatedSilu,          GatedGelu,     SigmoidRow,  Add,         AddScaled, AddProduct,
      RopeHead,           ToHalf,        SumExp,      ArgMax,      Attend,    DotProducts,
  };
  return kTable;
}

}  // namespace gateskip::kernels
