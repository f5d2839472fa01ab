// SPDX-License-Identifier: Apache-2.0
// Integer and float products over panels (packed_layout.h). Included once per target after vec.h.
//
// Row invariance: for one output element the sequence of f32 operations is one fused multiply-add per block (two
// with offsets), in K order, whatever the tile. Tiling over panels and rows only shares loads.

// A tile is kPanelTile panels x kRowTile rows: each has an integer and a float accumulator in a register. Both numbers
// matter: with one panel the activations' broadcast loads, one per dot product, keep the multipliers waiting.
// Measured on Zen 5 (1 thread, peak 1145 GOP/s from registers, 572 with a broadcast load for each): 1 x 8 682 GOP/s,
// 2 x 6 765, 4 x 3 769. Two-step dot products take registers of their own, and AVX2 has but sixteen of half the width.
#if defined(__AVX512VNNI__)
enum { kPanelTile = 2, kRowTile = 6 };
#elif defined(__AVX512F__)
enum { kPanelTile = 2, kRowTile = 4 };
#else
enum { kPanelTile = 1, kRowTile = 2 };
#endif

// How far ahead the codes of a matrix are asked for where memory is what a product waits for: hardware prefetchers stop
// at each 4 KiB page. Measured on Zen 5, GB/s of one thread: none 37, 2 KiB 43, 4 KiB 45, 8 KiB 50, 16 KiB 45.
enum { kPrefetchBytes = 8192 };

GS_INLINE VecF LoadScales(const void* base, size_t index, int half_scales) {
  return half_scales ? LoadHalf((const uint16_t*)base + index) : LoadF((const float*)base + index);
}

GS_INLINE void Prefetch(const void* base, size_t offset) {
  __builtin_prefetch((const char*)base + offset);  // never faults, so it may run past the end
}

// The dot products of one block (sub_blocks == 1) or of its half `sub`, for every panel and row of the tile.
// x is the first row's block.
GS_INLINE void DotBlock(const uint8_t* const* codes, int four_bit, int sub_blocks, int sub, const int8_t* x,
                        size_t x_stride, int prefetch, int panels, int rows, VecI dot[kPanelTile][kRowTile]) {
  if (four_bit) {
    const VecI mask = SetI(0x0F0F0F0F);
    VecI sums[kPanelTile][kRowTile];
    for (int p = 0; p < panels; ++p) {
      for (int r = 0; r < rows; ++r) sums[p][r] = BeginNibbles(dot[p][r]);
    }
    for (int g = 0; g < 4; ++g) {  // groups g in the low nibbles, g + 4 in the high ones
      VecI both[kPanelTile];
      for (int p = 0; p < panels; ++p) {
        both[p] = LoadI(codes[p] + (size_t)g * 64);
        if (prefetch) Prefetch(codes[p], kPrefetchBytes + (size_t)g * 64);
      }
      for (int r = 0; r < rows; ++r) {
        const VecI low = LoadGroup(x + (size_t)r * x_stride + g * 4);
        for (int p = 0; p < panels; ++p) sums[p][r] = DotNibbles(sums[p][r], both[p] & mask, low);
      }
      for (int p = 0; p < panels; ++p) both[p] = (both[p] >> 4) & mask;
      for (int r = 0; r < rows; ++r) {
        const VecI high = LoadGroup(x + (size_t)r * x_stride + 16 + g * 4);
        for (int p = 0; p < panels; ++p) sums[p][r] = DotNibbles(sums[p][r], both[p], high);
      }
    }
    for (int p = 0; p < panels; ++p) {
      for (int r = 0; r < rows; ++r) dot[p][r] = EndNibbles(dot[p][r], sums[p][r]);
    }
    return;
  }
  const int groups = 8 / sub_blocks;
  for (int g = sub * groups; g < (sub + 1) * groups; ++g) {
    VecI code[kPanelTile];
    for (int p = 0; p < panels; ++p) {
      code[p] = LoadI(codes[p] + (size_t)g * 64);
      if (prefetch) Prefetch(codes[p], kPrefetchBytes + (size_t)g * 64);
    }
    for (int r = 0; r < rows; ++r) {
      const VecI four = LoadGroup(x + (size_t)r * x_stride + g * 4);
      for (int p = 0; p < panels; ++p) dot[p][r] = DotCodes(dot[p][r], code[p], four);
    }
  }
}

// What a format's loops are compiled for. A weight has an offset or a zero point, never both (packed_layout.h).
struct BlockKind {
  int four_bit;
  int sub_blocks;  // scales of a block: 1 or 2
  int offsets;
  int half_scales;
};

// `panels` x `rows` outputs. All but t, panel and row are constants.
GS_INLINE void IntegerTile(const IntegerTask* t, BlockKind kind, int prefetch, size_t panel, int panels, size_t row,
                           int rows) {
  const int four_bit = kind.four_bit, sub_blocks = kind.sub_blocks;
  const size_t blocks = t->num_blocks;
  const size_t block_bytes = four_bit ? kU4BlockBytes : kU8BlockBytes;
  const size_t scale_bytes = kPanelRows * (kind.half_scales ? 2 : 4);
  VecF acc[kPanelTile][kRowTile];
  for (int p = 0; p < panels; ++p) {
    for (int r = 0; r < rows; ++r) acc[p][r] = SetF(0.0f);
  }
  for (size_t b = 0; b < blocks; ++b) {
    const uint8_t* codes[kPanelTile];
    for (int p = 0; p < panels; ++p) codes[p] = t->codes + ((panel + (size_t)p) * blocks + b) * block_bytes;
    if (prefetch) {
      for (int p = 0; p < panels; ++p) {
        const size_t at = ((panel + (size_t)p) * blocks + b) * scale_bytes + kPrefetchBytes / 8;
        Prefetch(t->scales, at * (size_t)sub_blocks);
        if (kind.offsets) Prefetch(t->offsets, at);
      }
    }
    const size_t x_block = row * blocks + b;
    for (int s = 0; s < sub_blocks; ++s) {
      VecI dot[kPanelTile][kRowTile];
      for (int r = 0; r < rows; ++r) {
        VecI start = SetI(0);
        if (!kind.offsets) {
          const int32_t* sums = t->x_sums + (x_block + (size_t)r * blocks) * 2;
          start = SetI(-t->zero * (sub_blocks == 2 ? sums[s] : sums[0] + sums[1]));
        }
        for (int p = 0; p < panels; ++p) dot[p][r] = start;
      }
      DotBlock(codes, four_bit, sub_blocks, s, t->x + x_block * kBlock, blocks * kBlock, prefetch, panels, rows, dot);
      for (int p = 0; p < panels; ++p) {
        const size_t index = (((panel + (size_t)p) * blocks + b) * (size_t)sub_blocks + (size_t)s) * kPanelRows;
        const VecF scale = LoadScales(t->scales, index, kind.half_scales);
        for (int r = 0; r < rows; ++r) {
          acc[p][r] = Fma(ToF(dot[p][r]), scale * SetF(t->x_scales[x_block + (size_t)r * blocks]), acc[p][r]);
        }
        if (!kind.offsets) continue;
        const VecF offset = LoadScales(t->offsets, index, kind.half_scales);
        for (int r = 0; r < rows; ++r) {
          acc[p][r] = Fma(offset, SetF(t->x_scaled_sums[x_block + (size_t)r * blocks]), acc[p][r]);
        }
      }
    }
  }
  for (int p = 0; p < panels; ++p) {
    const size_t first_out = (panel + (size_t)p) * kPanelRows;
    const size_t valid = t->out_rows - first_out < kPanelRows ? t->out_rows - first_out : kPanelRows;
    for (int r = 0; r < rows; ++r) {
      float* destination = t->out + (row + (size_t)r) * t->out_stride + first_out;
      if (valid == kPanelRows) {
        StoreF(destination, acc[p][r]);
      } else {
        for (size_t i = 0; i < valid; ++i) destination[i] = acc[p][r][i];
      }
    }
  }
}

// Constant arguments, so that every variant is unrolled.
GS_INLINE void IntegerRows(const IntegerTask* t, BlockKind kind, size_t panel, int panels) {
  const size_t n = t->num_rows;
  size_t row = 0;
  for (; row + kRowTile <= n; row += kRowTile) {
    if (row == 0 && n < 64) {
      IntegerTile(t, kind, 1, panel, panels, row, kRowTile);
    } else {
      IntegerTile(t, kind, 0, panel, panels, row, kRowTile);
    }
  }
  for (; kRowTile > 4 && row + 4 <= n; row += 4) IntegerTile(t, kind, 1, panel, panels, row, kRowTile > 4 ? 4 : 1);
  for (; row + 2 <= n; row += 2) IntegerTile(t, kind, 1, panel, panels, row, 2);
  for (; row < n; ++row) IntegerTile(t, kind, 1, panel, panels, row, 1);
}

GS_INLINE void IntegerPanels(const IntegerTask* t, BlockKind kind) {
  size_t panel = t->panel_begin;
  if (t->num_rows > kRowTile) {
    for (; panel + kPanelTile <= t->panel_end; panel += kPanelTile) {
      IntegerRows(t, kind, panel, kPanelTile);
    }
  }
  // Few rows run through the panels one by one: they wait for memory, and one stream is what it gives fastest.
  for (; panel < t->panel_end; ++panel) IntegerRows(t, kind, panel, 1);
}

static void IntegerMatMul(const IntegerTask& task) {
  const int offsets = task.offsets != 0;
  // Q6_K; Q4_0, Q4_1, Q4_K; Q8_0 and Q5_0, Q5_1, Q5_K.
  if (task.layout == PackedLayout::kU8x16) {
    IntegerPanels(&task, BlockKind{0, 2, 0, 0});
  } else if (task.layout == PackedLayout::kU4) {
    if (!offsets) {
      IntegerPanels(&task, BlockKind{1, 1, 0, 1});
    } else if (task.half_scales) {
      IntegerPanels(&task, BlockKind{1, 1, 1, 1});
    } else {
      IntegerPanels(&task, BlockKind{1, 1, 1, 0});
    }
  } else {
    if (!offsets) {
      IntegerPanels(&task, BlockKind{0, 1, 0, 1});
    } else if (task.half_scales) {
      IntegerPanels(&task, BlockKind{0, 1, 1, 1});
    } else {
      IntegerPanels(&task, BlockKind{0, 1, 1, 0});
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
    if (valid == kPanelRows) {
      StoreF(out, t->accumulate ? LoadF(out) + SetF(t->scale) * sum : sum);
      continue;
    }
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

// As many running sums as a tile has, blocks of 4-bit codes: the fastest. The codes are read again in every round, as
// far as the compiler knows.
static uint64_t DotProducts(size_t rounds) {
  enum { kSums = kPanelTile * kRowTile, kDots = kBlock / kGroup };
  VecI codes[kDots], sums[kSums];
  for (int g = 0; g < kDots; ++g) codes[g] = SetI(0x01020304 + g);
  for (int i = 0; i < kSums; ++i) sums[i] = SetI(0);
  const VecI x = SetI(0x05060708);
  for (size_t round = 0; round < rounds; ++round) {
    __asm__ volatile("" : : "r"(codes) : "memory");
    for (int i = 0; i < kSums; ++i) {
      VecI block = BeginNibbles(sums[i]);
      for (int g = 0; g < kDots; ++g) block = DotNibbles(block, codes[g], x);
      sums[i] = EndNibbles(sums[i], block);
    }
  }
  for (int i = 1; i < kSums; ++i) sums[0] = sums[0] + sums[i];
  const int32_t used = ReduceAddI(sums[0]);
  __asm__ volatile("" : : "r"(used));
  return (uint64_t)rounds * kSums * 2 * kPanelRows * kBlock;
}
