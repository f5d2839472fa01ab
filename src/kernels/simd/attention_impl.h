// SPDX-License-Identifier: Apache-2.0
// Attention of one row over one KV head (arXiv 1706.03762; grouped queries: arXiv 2305.13245): an exact two-pass
// softmax over the row's positions, in position order. Included once per target after vec.h.
//
// A page's layer holds, per KV head, K transposed [head_dim][64] (a vector covers 16 positions, no horizontal
// sums) and V [64][head_dim].

GS_INLINE float LoadHalfScalar(const uint16_t* p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*p))); }

enum { kMaxGroupTile = 4 };  // query heads that share the K loads

GS_INLINE VecF LoadKv(const void* base, size_t index, KvType type) {
  return type == KvType::kF16 ? LoadHalf((const uint16_t*)base + index) : LoadF((const float*)base + index);
}

// Scores of 64 positions for up to kMaxGroupTile query heads.
GS_INLINE void PageScores(const void* k, KvType type, const float* const* query, int heads, size_t head_dim,
                          float scale, float* const* scores) {
  for (int half = 0; half < 2; ++half) {
    VecF acc[kMaxGroupTile][2];
    for (int h = 0; h < heads; ++h) acc[h][0] = acc[h][1] = SetF(0.0f);
    for (size_t d = 0; d < head_dim; ++d) {
      const size_t at = d * kKvPagePositions + (size_t)half * 32;
      const VecF k0 = LoadKv(k, at, type), k1 = LoadKv(k, at + 16, type);
      for (int h = 0; h < heads; ++h) {
        const VecF q = SetF(query[h][d]);
        acc[h][0] = Fma(q, k0, acc[h][0]);
        acc[h][1] = Fma(q, k1, acc[h][1]);
      }
    }
    for (int h = 0; h < heads; ++h) {
      StoreF(scores[h] + half * 32, acc[h][0] * SetF(scale));
      StoreF(scores[h] + half * 32 + 16, acc[h][1] * SetF(scale));
    }
  }
}

GS_INLINE void PageScoresTyped(const void* k, KvType type, const float* const* query, int heads, size_t head_dim,
                               float scale, float* const* scores) {
  // Constant head counts and types, so that the accumulators stay in registers.
#define GS_HEADS(n)                                                   \
  case n:                                                             \
    if (type == KvType::kF16) {                                       \
      PageScores(k, KvType::kF16, query, n, head_dim, scale, scores); \
    } else {                                                          \
      PageScores(k, KvType::kF32, query, n, head_dim, scale, scores); \
    }                                                                 \
    break;
  switch (heads) {
    GS_HEADS(1)
    GS_HEADS(2)
    GS_HEADS(3)
    GS_HEADS(4)
  }
#undef GS_HEADS
}

// out[head_dim] += sum over positions of p * V, 64 output elements at a time.
GS_INLINE void AddValues(const void* const* v, const float* p, size_t count, KvType type, size_t head_dim, float* out) {
  size_t d = 0;
  for (; d + 64 <= head_dim; d += 64) {
    VecF acc[4];
    for (int j = 0; j < 4; ++j) acc[j] = LoadF(out + d + (size_t)j * 16);
    for (size_t i = 0; i < count; ++i) {
      if (v[i] == 0) continue;
      const VecF weight = SetF(p[i]);
      for (int j = 0; j < 4; ++j) acc[j] = Fma(weight, LoadKv(v[i], d + (size_t)j * 16, type), acc[j]);
    }
    for (int j = 0; j < 4; ++j) StoreF(out + d + (size_t)j * 16, acc[j]);
  }
  for (; d + 16 <= head_dim; d += 16) {
    VecF acc = LoadF(out + d);
    for (size_t i = 0; i < count; ++i) {
      if (v[i] != 0) acc = Fma(SetF(p[i]), LoadKv(v[i], d, type), acc);
    }
    StoreF(out + d, acc);
  }
  for (; d < head_dim; ++d) {
    for (size_t i = 0; i < count; ++i) {
      if (v[i] == 0) continue;
      const float value = type == KvType::kF16 ? LoadHalfScalar((const uint16_t*)v[i] + d) : ((const float*)v[i])[d];
      out[d] = __builtin_fmaf(p[i], value, out[d]);
    }
  }
}

static void Attend(const AttentionTask& task) {
  const AttentionShape* shape = task.shape;
  const AttentionRow* row = task.rows;
  const KvType type = shape->kv.type;
  const size_t head_dim = shape->kv.head_dim;
  const size_t group = shape->num_heads / shape->kv.num_kv_heads;
  const size_t element = type == KvType::kF16 ? 2 : 4;
  const size_t head_bytes = head_dim * kKvPagePositions * element;  // K or V of one head
  const size_t k_at = task.kv_head * 2 * head_bytes;
  const size_t first = (size_t)row->first, last = (size_t)row->last;
  const size_t first_page = first / kKvPagePositions, last_page = last / kKvPagePositions;
  const size_t stride = (last_page + 1 - first_page) * kKvPagePositions;
  const float minus_infinity = -__builtin_inff();

  for (size_t tile = 0; tile < group; tile += kMaxGroupTile) {
    const int heads = group - tile < kMaxGroupTile ? (int)(group - tile) : (int)kMaxGroupTile;
    const float* query[kMaxGroupTile];
    float* out[kMaxGroupTile];
    float largest[kMaxGroupTile];
    for (int h = 0; h < heads; ++h) {
      const size_t head = task.kv_head * group + tile + (size_t)h;
      query[h] = row->query + head * head_dim;
      out[h] = row->out + head * head_dim;
      largest[h] = minus_infinity;
    }
    for (size_t page = first_page; page <= last_page; ++page) {
      const size_t begin = page * kKvPagePositions;
      float* scores[kMaxGroupTile];
      for (int h = 0; h < heads; ++h)
        scores[h] = task.scores + (size_t)h * stride + begin - first_page * kKvPagePositions;
      uint16_t source[kKvPagePositions];
      int uniform = 1;
      for (size_t i = 0; i < kKvPagePositions; ++i) {
        const size_t p = begin + i;
        source[i] = p < first || p > last ? kKvDropped : (row->source ? row->source[p] : (uint16_t)task.layer);
        uniform &= source[i] == (uint16_t)task.layer;
      }
      if (uniform) {
        PageScoresTyped((const char*)row->pages[page] + task.layer * task.layer_bytes + k_at, type, query, heads,
                        head_dim, shape->scale, scores);
      } else {
        // Positions with the same source layer together: the arithmetic of a position is the same as above.
        for (int h = 0; h < heads; ++h) {
          for (size_t i = 0; i < kKvPagePositions; ++i) scores[h][i] = minus_infinity;
        }
        uint16_t done[kKvPagePositions];
        size_t num_done = 0;
        for (size_t i = 0; i < kKvPagePositions; ++i) {
          int known = source[i] == kKvDropped;
          for (size_t j = 0; j < num_done; ++j) known |= done[j] == source[i];
          if (known) continue;
          done[num_done++] = source[i];
          float temporary[kMaxGroupTile][kKvPagePositions];
          float* into[kMaxGroupTile];
          for (int h = 0; h < heads; ++h) into[h] = temporary[h];
          PageScoresTyped((const char*)row->pages[page] + source[i] * task.layer_bytes + k_at, type, query, heads,
                          head_dim, shape->scale, into);
          for (size_t p = 0; p < kKvPagePositions; ++p) {
            if (source[p] != source[i]) continue;
            for (int h = 0; h < heads; ++h) scores[h][p] = temporary[h][p];
          }
        }
      }
      for (int h = 0; h < heads; ++h) {
        VecF m = LoadF(scores[h]);
        for (size_t i = 16; i < kKvPagePositions; i += 16) m = MaxF(m, LoadF(scores[h] + i));
        const float page_max = ReduceMax(m);
        largest[h] = page_max > largest[h] ? page_max : largest[h];
      }
    }
    for (int h = 0; h < heads; ++h) {
      float* scores = task.scores + (size_t)h * stride;
      for (size_t d = 0; d < head_dim; ++d) out[h][d] = 0.0f;
      if (largest[h] == minus_infinity) continue;  // nothing to attend to
      VecF sum = SetF(0.0f);
      for (size_t i = 0; i < stride; i += 16) {
        const VecF e = ExpF(LoadF(scores + i) - SetF(largest[h]));
        StoreF(scores + i, e);
        sum = sum + e;
      }
      const float total = ReduceAdd(sum);
      for (size_t page = first_page; page <= last_page; ++page) {
        const size_t begin = page * kKvPagePositions;
        const void* v[kKvPagePositions];
        for (size_t i = 0; i < kKvPagePositions; ++i) {
          const size_t p = begin + i;
          const size_t layer = p < first || p > last ? kKvDropped : (row->source ? row->source[p] : task.layer);
          v[i] = layer == kKvDropped ? 0
                                     : (const char*)row->pages[page] + layer * task.layer_bytes + k_at + head_bytes +
                                           i * head_dim * element;
        }
        const float* p = scores + begin - first_page * kKvPagePositions;
        if (type == KvType::kF16) {
          AddValues(v, p, kKvPagePositions, KvType::kF16, head_dim, out[h]);
        } else {
          AddValues(v, p, kKvPagePositions, KvType::kF32, head_dim, out[h]);
        }
      }
      const VecF inverse = SetF(1.0f / total);
      size_t d = 0;
      for (; d + 16 <= head_dim; d += 16) StoreF(out[h] + d, LoadF(out[h] + d) * inverse);
      for (; d < head_dim; ++d) out[h][d] *= inverse[0];
    }
  }
}
