// SPDX-License-Identifier: Apache-2.0
// Stored tensors to panels (packed_layout.h). Block formats keep their codes and scales bit for bit; only the order
// in memory changes. Exceptions: the 5-bit formats take a byte per code, and K-quants store scale * sub-scale in f32.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/packed_layout.h"
#include "tensor/dequantize.h"
#include "tensor/quantize.h"

namespace gateskip::kernels {
namespace {

struct IntegerFormat {
  PackedLayout layout;
  bool half_scales;
  int32_t zero;
  bool offsets;
};

// One row's K block of 32 in plain form.
struct PlainBlock {
  uint8_t codes[kBlock];
  float scale[2];  // [1] for kU8x16 only
  float offset;
};

uint16_t LoadU16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
uint8_t U8(const std::byte* p) { return std::to_integer<uint8_t>(*p); }

// The 6-bit scale and minimum of sub-block j of a Q4_K or Q5_K super-block (ggml's get_scale_min_k4).
void KScaleMin(const std::byte* scales, size_t j, uint8_t* scale, uint8_t* min) {
  if (j < 4) {
    *scale = U8(scales + j) & 63;
    *min = U8(scales + j + 4) & 63;
  } else {
    *scale = static_cast<uint8_t>((U8(scales + j + 4) & 0x0F) | ((U8(scales + j - 4) >> 6) << 4));
    *min = static_cast<uint8_t>((U8(scales + j + 4) >> 4) | ((U8(scales + j) >> 6) << 4));
  }
}

IntegerFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {PackedLayout::kU4, true, 8, false};
    case DType::kQ4_1:
      return {PackedLayout::kU4, true, 0, true};
    case DType::kQ5_0:
      return {PackedLayout::kU8, true, 16, false};
    case DType::kQ5_1:
      return {PackedLayout::kU8, true, 0, true};
    case DType::kQ8_0:
      return {PackedLayout::kU8, true, 128, false};
    case DType::kQ4_K:
      return {PackedLayout::kU4, false, 0, true};
    case DType::kQ5_K:
      return {PackedLayout::kU8, false, 0, true};
    case DType::kQ6_K:
      return {PackedLayout::kU8x16, false, 32, false};
    default:
      Fail(ErrorCode::kInternal, "[kernels] pack: expected a block format, found {}; please report this as a bug",
           GetDTypeInfo(dtype).name);
  }
}

// K block b (of 32) of a row stored as `dtype`.
PlainBlock ReadBlock(DType dtype, const std::byte* row, size_t b) {
  PlainBlock out = {};
  const auto nibbles = [&](const std::byte* q) {
    for (size_t i = 0; i < 16; ++i) {
      out.codes[i] = U8(q + i) & 0x0F;
      out.codes[i + 16] = U8(q + i) >> 4;
    }
  };
  const auto fifth_bits = [&](const std::byte* high) {
    uint32_t bits;
    std::memcpy(&bits, high, sizeof(bits));
    for (size_t i = 0; i < kBlock; ++i) out.codes[i] = static_cast<uint8_t>(out.codes[i] | ((bits >> i) & 1) << 4);
  };
  switch (dtype) {
    case DType::kQ4_0: {
      const std::byte* p = row + b * 18;
      out.scale[0] = HalfToFloat(LoadU16(p));
      nibbles(p + 2);
      break;
    }
    case DType::kQ4_1: {
      const std::byte* p = row + b * 20;
      out.scale[0] = HalfToFloat(LoadU16(p));
      out.offset = HalfToFloat(LoadU16(p + 2));
      nibbles(p + 4);
      break;
    }
    case DType::kQ5_0: {
      const std::byte* p = row + b * 22;
      out.scale[0] = HalfToFloat(LoadU16(p));
      nibbles(p + 6);
      fifth_bits(p + 2);
      break;
    }
    case DType::kQ5_1: {
      const std::byte* p = row + b * 24;
      out.scale[0] = HalfToFloat(LoadU16(p));
      out.offset = HalfToFloat(LoadU16(p + 2));
      nibbles(p + 8);
      fifth_bits(p + 4);
      break;
    }
    case DType::kQ8_0: {
      const std::byte* p = row + b * 34;
      out.scale[0] = HalfToFloat(LoadU16(p));
      for (size_t i = 0; i < kBlock; ++i) out.codes[i] = static_cast<uint8_t>(U8(p + 2 + i) ^ 0x80);  // q + 128
      break;
    }
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool five = dtype == DType::kQ5_K;
      const std::byte* p = row + (b / 8) * (five ? 176 : 144);
      const size_t j = b % 8;
      uint8_t scale, min;
      KScaleMin(p + 4, j, &scale, &min);
      out.scale[0] = HalfToFloat(LoadU16(p)) * static_cast<float>(scale);
      out.offset = -HalfToFloat(LoadU16(p + 2)) * static_cast<float>(min);
      const std::byte* q = p + (five ? 48 : 16) + (j / 2) * 32;
      for (size_t i = 0; i < kBlock; ++i) {
        const uint8_t low = j % 2 == 0 ? U8(q + i) & 0x0F : U8(q + i) >> 4;
        const uint8_t high = five ? static_cast<uint8_t>(((U8(p + 16 + i) >> j) & 1) << 4) : uint8_t{0};
        out.codes[i] = static_cast<uint8_t>(low | high);
      }
      break;
    }
    case DType::kQ6_K: {
      // 256 elements: ql[128], qh[64], scales[16] (i8), d (f16). Element 128 h + 32 g + i of half h, quarter g.
      const std::byte* p = row + (b / 8) * 210;
      const size_t h = (b % 8) / 4;
      const size_t g = b % 4;
      const std::byte* ql = p + h * 64 + (g % 2) * 32;
      const std::byte* qh = p + 128 + h * 32;
      for (size_t i = 0; i < kBlock; ++i) {
        const uint8_t low = g < 2 ? U8(ql + i) & 0x0F : U8(ql + i) >> 4;
        const uint8_t high = (U8(qh + i) >> (2 * g)) & 3;
        out.codes[i] = static_cast<uint8_t>(low | (high << 4));
      }
      const float d = HalfToFloat(LoadU16(p + 208));
      for (size_t s = 0; s < 2; ++s) {
        out.scale[s] = d * static_cast<float>(static_cast<int8_t>(U8(p + 192 + (b % 8) * 2 + s)));
      }
      break;
    }
    default:
      GS_CHECK(false);
  }
  return out;
}

void StoreScale(const PackedMatrix& m, AlignedBuffer<std::byte>* buffer, size_t index, float value) {
  if (m.half_scales) {
    reinterpret_cast<uint16_t*>(buffer->data())[index] = FloatToHalf(value);
  } else {
    reinterpret_cast<float*>(buffer->data())[index] = value;
  }
}

void StoreBlock(PackedMatrix* m, size_t panel, size_t lane, size_t b, const PlainBlock& block) {
  const size_t blocks = NumBlocks(m->cols);
  const bool four_bit = m->layout == PackedLayout::kU4;
  auto* codes =
      reinterpret_cast<uint8_t*>(m->codes.data()) + (panel * blocks + b) * (four_bit ? kU4BlockBytes : kU8BlockBytes);
  for (size_t k = 0; k < kBlock; ++k) {
    const size_t group = k / kGroup;
    const size_t at = lane * kGroup + k % kGroup;
    if (!four_bit) {
      codes[group * 64 + at] = block.codes[k];
    } else if (group < 4) {
      codes[group * 64 + at] = block.codes[k];
    } else {
      codes[(group - 4) * 64 + at] = static_cast<uint8_t>(codes[(group - 4) * 64 + at] | (block.codes[k] << 4));
    }
  }
  const size_t sub_blocks = m->layout == PackedLayout::kU8x16 ? 2 : 1;
  for (size_t s = 0; s < sub_blocks; ++s) {
    StoreScale(*m, &m->scales, ((panel * blocks + b) * sub_blocks + s) * kPanelRows + lane, block.scale[s]);
  }
  if (m->offsets.size() > 0) StoreScale(*m, &m->offsets, (panel * blocks + b) * kPanelRows + lane, block.offset);
}

// One row as blocks of `stored`, quantised if it is something else.
class RowBlocks {
 public:
  RowBlocks(const TensorView& weight, DType stored)
      : weight_(weight), stored_(stored), requantize_(stored != weight.dtype) {
    const size_t cols = static_cast<size_t>(weight.shape[1]);
    row_bytes_ = *StorageBytes(weight.dtype, cols);
    if (!requantize_) return;
    values_.resize(RoundUp(cols, kBlock));
    quantized_.resize(*StorageBytes(stored, values_.size()));
  }

  void Load(size_t row) {
    if (!requantize_) {
      data_ = weight_.data.data() + row * row_bytes_;
      return;
    }
    DequantizeRow(weight_, row, std::span(values_).first(static_cast<size_t>(weight_.shape[1])));
    if (!Quantize(stored_, values_, quantized_)) {
      Fail(ErrorCode::kCorruptData,
           "[weights] row {}: expected numbers that {} can hold, found others; keep their format", row,
           GetDTypeInfo(stored_).name);
    }
    data_ = quantized_.data();
  }

  PlainBlock Block(size_t b) const { return ReadBlock(stored_, data_, b); }

 private:
  const TensorView& weight_;
  DType stored_;
  bool requantize_;
  size_t row_bytes_ = 0;
  std::vector<float> values_;  // zeros behind the last column
  std::vector<std::byte> quantized_;
  const std::byte* data_ = nullptr;
};

void PackInteger(const TensorView& weight, DType stored, PackedMatrix* m, ThreadPool& pool) {
  const IntegerFormat format = FormatOf(stored);
  m->layout = format.layout;
  m->half_scales = format.half_scales;
  m->zero = format.zero;
  const size_t panels = NumPanels(m->rows);
  const size_t blocks = NumBlocks(m->cols);
  const size_t cells = panels * blocks;
  m->codes = AlignedBuffer<std::byte>(cells * (m->layout == PackedLayout::kU4 ? kU4BlockBytes : kU8BlockBytes));
  const size_t scale_bytes = cells * kPanelRows * (format.half_scales ? 2 : 4);
  m->scales = AlignedBuffer<std::byte>(scale_bytes * (m->layout == PackedLayout::kU8x16 ? 2 : 1));
  if (format.offsets) m->offsets = AlignedBuffer<std::byte>(scale_bytes);
  pool.ParallelFor(panels, 1, [&](size_t begin, size_t end, int) {
    RowBlocks source(weight, stored);
    for (size_t panel = begin; panel < end; ++panel) {
      for (size_t lane = 0; lane < kPanelRows; ++lane) {
        const size_t row = panel * kPanelRows + lane;
        if (row < m->rows) source.Load(row);
        for (size_t b = 0; b < blocks; ++b) {
          StoreBlock(m, panel, lane, b, row < m->rows ? source.Block(b) : PlainBlock{});
        }
      }
    }
  });
}

template <typename T, typename Read>
void PackFloatRows(PackedMatrix* m, ThreadPool& pool, const Read& read_row) {
  const size_t panels = NumPanels(m->rows);
  m->codes = AlignedBuffer<std::byte>(panels * m->cols * kPanelRows * sizeof(T));
  auto* out = reinterpret_cast<T*>(m->codes.data());
  pool.ParallelFor(panels, 1, [&](size_t begin, size_t end, int) {
    std::vector<T> row(m->cols);
    for (size_t panel = begin; panel < end; ++panel) {
      for (size_t lane = 0; lane < kPanelRows; ++lane) {
        const size_t r = panel * kPanelRows + lane;
        if (r < m->rows) {
          read_row(r, row);
        } else {
          std::fill(row.begin(), row.end(), T{});
        }
        for (size_t k = 0; k < m->cols; ++k) out[(panel * m->cols + k) * kPanelRows + lane] = row[k];
      }
    }
  });
}

}  // namespace

PackedMatrix PackWeights(const TensorView& weight, PackFormat format, ThreadPool& pool) {
  GS_CHECK(weight.shape.size() == 2);
  PackedMatrix m;
  m.rows = static_cast<size_t>(weight.shape[0]);
  m.cols = static_cast<size_t>(weight.shape[1]);
  const bool stored_float = weight.dtype == DType::kF32 || weight.dtype == DType::kF16 || weight.dtype == DType::kBF16;
  if (format == PackFormat::kQ8 || format == PackFormat::kQ4) {
    PackInteger(weight, format == PackFormat::kQ8 ? DType::kQ8_0 : DType::kQ4_1, &m, pool);
  } else if (format == PackFormat::kNative && !stored_float) {
    PackInteger(weight, weight.dtype, &m, pool);
  } else if (format == PackFormat::kNative && weight.dtype != DType::kF32) {
    m.layout = weight.dtype == DType::kF16 ? PackedLayout::kF16 : PackedLayout::kBF16;
    PackFloatRows<uint16_t>(&m, pool, [&](size_t r, std::vector<uint16_t>& row) {
      std::memcpy(row.data(), weight.data.data() + r * m.cols * 2, m.cols * 2);
    });
  } else {
    m.layout = PackedLayout::kF32;
    PackFloatRows<float>(&m, pool, [&](size_t r, std::vector<float>& row) { DequantizeRow(weight, r, row); });
  }
  m.bytes = m.codes.bytes() + m.scales.bytes() + m.offsets.bytes();
  return m;
}

}  // namespace gateskip::kernels
