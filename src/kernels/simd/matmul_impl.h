// SPDX-License-Identifier: Apache-2.0
// Integer and float products over panels (packed_layout.h). Included once per target after vec.h.
//
// Row invariance: for one output element the sequence of f32 operations is one fused multiply-add per block (two
// with offsets), in K order, whatever the number of rows. Tiling over rows only shares the weight loads.

// Rows that share one pass over a panel. 8 rows x (1 integer + 1 float accumulator) + 8 code vectors fit 32
// registers; measured on Sapphire Rapids: 4 rows reach 60 %, 8 rows 75 % of what the dot-product ports allow.
enum { kRowTile = 8 };

GS_INLINE VecF LoadScales(const void* base, size_t index, int half_scales) {
  return half_scales ? LoadHalf((const uint16_t*)base + index) : LoadF((const float*)base + index);
}

// Code vectors of K group g (0..7) of one block.
GS_INLINE VecI LoadCodes(const uint8_t* block, int g, int four_bit) {
  if (!four_bit) return *(const VecIU*)(block + (size_t)g * 64);
  const VecI both = *(const VecIU*)(block + (size_t)(g & 3) * 64);
  const VecI mask = SetI(0x0F0F0F0F);
  return g < 4 ? (both & mask) : ((both >> 4) & mask);
}

// acc = fma(dot, w_scale * x_scale, acc), then the offset's share: one block (or sub-block) of one row.
GS_INLINE VecF AddBlock(VecF acc, VecI dot, VecF w_scale, float x_scale) {
  return Fma(ToF(dot), w_scale * SetF(x_scale), acc);
}

// One panel, `rows` activation rows (<= kRowTile), codes of 4 or 8 bits, 1 or 2 scales a block.
GS_INLINE void IntegerPanel(const IntegerTask* t, const uint8_t* codes, int four_bit, int sub_blocks, size_t panel,
                            size_t first_row, int rows, float* out) {
  const size_t blocks = t->num_blocks;
  const size_t block_bytes = four_bit ? kU4BlockBytes : kU8BlockBytes;
  const size_t scale_base = panel * blocks * (size_t)sub_blocks * kPanelRows;
  VecF acc[kRowTile];
  for (int r = 0; r < rows; ++r) acc[r] = SetF(0.0f);
  for (size_t b = 0; b < blocks; ++b) {
    VecI code[8];
    for (int g = 0; g < 8; ++g) code[g] = LoadCodes(codes + b * block_bytes, g, four_bit);
    VecF scale[2], offset = SetF(0.0f);
    for (int s = 0; s < sub_blocks; ++s) {
      scale[s] = LoadScales(t->scales, scale_base + (b * (size_t)sub_blocks + (size_t)s) * kPanelRows, t->half_scales);
    }
    if (t->offsets) offset = LoadScales(t->offsets, scale_base + b * kPanelRows, t->half_scales);
    for (int r = 0; r < rows; ++r) {
      const size_t row = first_row + (size_t)r;
      const int8_t* x = t->x + (row * blocks + b) * kBlock;
      const float x_scale = t->x_scales[row * blocks + b];
      const int32_t* sums = t->x_sums + (row * blocks + b) * 2;
      if (sub_blocks == 1) {
        VecI dot_a = SetI(-t->zero * (sums[0] + sums[1])), dot_b = SetI(0);
        for (int g = 0; g < 4; ++g) {
          dot_a = DotCodes(dot_a, code[g], x + g * 4);
          dot_b = DotCodes(dot_b, code[g + 4], x + 16 + g * 4);
        }
        acc[r] = AddBlock(acc[r], dot_a + dot_b, scale[0], x_scale);
        if (t->offsets) acc[r] = Fma(offset, SetF(x_scale * (float)(sums[0] + sums[1])), acc[r]);
      } else {
        for (int s = 0; s < 2; ++s) {
          VecI dot = SetI(-t->zero * sums[s]);
          for (int g = 0; g < 4; ++g) dot = DotCodes(dot, code[s * 4 + g], x + s * 16 + g * 4);
          acc[r] = AddBlock(acc[r], dot, scale[s], x_scale);
        }
      }
    }
  }
  const size_t first_out = panel * kPanelRows;
  const size_t valid = t->out_rows - first_out < kPanelRows ? t->out_rows - first_out : kPanelRows;
  for (int r = 0; r < rows; ++r) {
    float* destination = out + (size_t)r * t->out_stride + first_out;
    if (valid == kPanelRows) {
      StoreF(destination, acc[r]);
    } else {
      for (size_t i = 0; i < valid; ++i) destination[i] = acc[r][i];
    }
  }
}

// Constant arguments, so that every variant is unrolled.
GS_INLINE void IntegerRows(const IntegerTask* t, const uint8_t* codes, int four_bit, int sub_blocks, size_t panel) {
  size_t row = 0;
  for (; row + kRowTile <= t->num_rows; row += kRowTile) {
    IntegerPanel(t, codes, four_bit, sub_blocks, panel, row, kRowTile, t->out + row * t->out_stride);
  }
  for (; row + 2 <= t->num_rows; row += 2) {
    IntegerPanel(t, codes, four_bit, sub_blocks, panel, row, 2, t->out + row * t->out_stride);
  }
  for (; row < t->num_rows; ++row) {
    IntegerPanel(t, codes, four_bit, sub_blocks, panel, row, 1, t->out + row * t->out_stride);
  }
}

static void IntegerMatMul(const IntegerTask& task) {
  const IntegerTask* t = &task;
  const int four_bit = t->layout == PackedLayout::kU4;
  const size_t panel_bytes = t->num_blocks * (four_bit ? kU4BlockBytes : kU8BlockBytes);
  for (size_t panel = t->panel_begin; panel < t->panel_end; ++panel) {
    const uint8_t* codes = t->codes + panel * panel_bytes;
    if (t->layout == PackedLayout::kU8x16) {
      IntegerRows(t, codes, 0, 2, panel);
    } else if (!four_bit) {
      IntegerRows(t, codes, 0, 1, panel);
    } else if (t->num_rows < kRowTile) {
      IntegerRows(t, codes, 1, 1, panel);
    } else {
      // Many rows: unpack the nibbles once.
      for (size_t b = 0; b < t->num_blocks; ++b) {
        for (int g = 0; g < 8; ++g) {
          *(VecIU*)(t->scratch + b * kU8BlockBytes + (size_t)g * 64) = LoadCodes(codes + b * kU4BlockBytes, g, 1);
        }
      }
      IntegerRows(t, t->scratch, 0, 1, panel);
    }
  }
}

GS_INLINE VecF LoadWeight(const void* weights, size_t index, PackedLayout layout) {
  if (layout == PackedLayout::kF32) return LoadF((const float*)weights + index);
  if (layout == PackedLayout::kF16) return LoadHalf((const uint16_t*)weights + index);
  return LoadBf16((const uint16_t*)weights + index);
}

enum { kFloatTile = 4 };

// Four running sums by k mod 4 hide the latency of the multiply-add; they are added in one fixed order.
GS_INLINE void FloatPanel(const FloatTask* t, PackedLayout layout, size_t panel, size_t first_row, int rows) {
  VecF acc[kFloatTile][4];
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < 4; ++j) acc[r][j] = SetF(0.0f);
  }
  const size_t base = panel * t->cols * kPanelRows;
  size_t k = 0;
  for (; k + 4 <= t->cols; k += 4) {
    for (int j = 0; j < 4; ++j) {
      const VecF w = LoadWeight(t->weights, base + (k + (size_t)j) * kPanelRows, layout);
      for (int r = 0; r < rows; ++r) acc[r][j] = Fma(w, SetF(t->x[first_row + (size_t)r][k + (size_t)j]), acc[r][j]);
    }
  }
  for (; k < t->cols; ++k) {
    const VecF w = LoadWeight(t->weights, base + k * kPanelRows, layout);
    for (int r = 0; r < rows; ++r) acc[r][0] = Fma(w, SetF(t->x[first_row + (size_t)r][k]), acc[r][0]);
  }
  const size_t first_out = panel * kPanelRows;
  const size_t valid = t->out_rows - first_out < kPanelRows ? t->out_rows - first_out : kPanelRows;
  for (int r = 0; r < rows; ++r) {
    const VecF sum = (acc[r][0] + acc[r][1]) + (acc[r][2] + acc[r][3]);
    float* out = t->out + (first_row + (size_t)r) * t->out_stride + first_out;
    for (size_t i = 0; i < valid; ++i) out[i] = t->accumulate ? out[i] + t->scale * sum[i] : sum[i];
  }
}

GS_INLINE void FloatRows(const FloatTask* t, PackedLayout layout) {
  for (size_t panel = t->panel_begin; panel < t->panel_end; ++panel) {
    size_t row = 0;
    for (; row + kFloatTile <= t->num_rows; row += kFloatTile) FloatPanel(t, layout, panel, row, kFloatTile);
    for (; row < t->num_rows; ++row) FloatPanel(t, layout, panel, row, 1);
  }
}

static void FloatMatMul(const FloatTask& task) {
  switch (task.layout) {
    case PackedLayout::kF16:
      FloatRows(&task, PackedLayout::kF16);
      break;
    case PackedLayout::kBF16:
      FloatRows(&task, PackedLayout::kBF16);
      break;
    default:
      FloatRows(&task, PackedLayout::kF32);
      break;
  }
}
