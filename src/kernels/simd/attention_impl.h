// SPDX-License-Identifier: Apache-2.0
// Attention of some rows of one sequence over one KV head (arXiv 1706.03762; grouped queries: arXiv 2305.13245): an
// exact two-pass softmax over each row's positions, in position order. Included once per target after vec.h.
//
// Row invariance: a query is one row's head. Queries that run in one tile share the loads of K and V and nothing else:
// each has its own accumulators, fed in the order of head_dim (scores) and of its positions (values).

GS_INLINE float LoadHalfScalar(const uint16_t* p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*p))); }

// Queries of a tile and vectors of K or V each meets at a time: their accumulators live in registers.
#if defined(__AVX512F__)
enum { kQueryTile = 6, kTileVectors = 4 };
#else
enum { kQueryTile = 2, kTileVectors = 2 };
#endif

struct Query {
  const float* q;  // [head_dim]
  float* out;      // [head_dim]
  float* scores;   // [pages of the task * 64], from the task's first page on
  size_t first, last;
  float largest;
};

// Keys or values of one head in one page (packed_layout.h). `type`, everywhere below, is a constant.
struct Part {
  const char* elements;
  const float* scales;  // kQ8
};

GS_INLINE VecF LoadElements(const char* elements, size_t index, KvType type) {
  if (type == KvType::kF16) return LoadHalf((const uint16_t*)elements + index);
  if (type == KvType::kQ8) return LoadCodes((const int8_t*)elements + index);
  return LoadF((const float*)elements + index);
}
// Element d of sixteen keys.
GS_INLINE VecF LoadKeys(Part keys, size_t d, size_t slot, KvType type) {
  const VecF k = LoadElements(keys.elements, d * kKvPagePositions + slot, type);
  return type == KvType::kQ8 ? k * LoadF(keys.scales + d / kBlock * kKvPagePositions + slot) : k;
}
// Sixteen elements of a value, from d on, and one.
GS_INLINE VecF LoadValue(Part values, size_t slot, size_t d, size_t head_dim, KvType type) {
  const VecF v = LoadElements(values.elements, slot * head_dim + d, type);
  return type == KvType::kQ8 ? v * SetF(values.scales[slot * ((head_dim + kBlock - 1) / kBlock) + d / kBlock]) : v;
}
GS_INLINE float LoadValueElement(Part values, size_t slot, size_t d, size_t head_dim, KvType type) {
  const size_t at = slot * head_dim + d;
  if (type == KvType::kF16) return LoadHalfScalar((const uint16_t*)values.elements + at);
  if (type == KvType::kF32) return ((const float*)values.elements)[at];
  return (float)((const int8_t*)values.elements)[at] *
         values.scales[slot * ((head_dim + kBlock - 1) / kBlock) + d / kBlock];
}

// Scores of a page's 64 positions, at `at` in the queries' scores.
GS_INLINE void PageScores(Part k, KvType type, const Query* queries, int count, size_t head_dim, float scale,
                          size_t at) {
  for (size_t begin = 0; begin < kKvPagePositions; begin += kTileVectors * 16) {
    VecF acc[kQueryTile][kTileVectors];
    for (int h = 0; h < count; ++h) {
      for (int j = 0; j < kTileVectors; ++j) acc[h][j] = SetF(0.0f);
    }
    for (size_t d = 0; d < head_dim; ++d) {
      VecF keys[kTileVectors];
      for (int j = 0; j < kTileVectors; ++j) {
        keys[j] = LoadKeys(k, d, begin + (size_t)j * 16, type);
      }
      for (int h = 0; h < count; ++h) {
        const VecF q = SetF(queries[h].q[d]);
        for (int j = 0; j < kTileVectors; ++j) acc[h][j] = Fma(q, keys[j], acc[h][j]);
      }
    }
    for (int h = 0; h < count; ++h) {
      for (int j = 0; j < kTileVectors; ++j) {
        StoreF(queries[h].scores + at + begin + (size_t)j * 16, acc[h][j] * SetF(scale));
      }
    }
  }
}

// Where the task's K and V are.
struct Cache {
  const AttentionTask* task;
  const uint16_t* source;
  KvType type;
  size_t head_dim;
};

GS_INLINE size_t SourceOf(const Cache* c, size_t p) { return c->source ? c->source[p] : c->task->layer; }
GS_INLINE const char* HeadOf(const Cache* c, size_t page, size_t layer) {
  return (const char*)c->task->rows[0].pages[page] + layer * c->task->layer_bytes +
         c->task->kv_head * c->task->head.bytes;
}
GS_INLINE Part KeysOf(const Cache* c, size_t page, size_t layer) {
  const char* head = HeadOf(c, page, layer);
  return Part{head, (const float*)(head + c->task->head.key_scales)};
}
GS_INLINE Part ValuesOf(const Cache* c, size_t page, size_t layer) {
  const char* head = HeadOf(c, page, layer);
  return Part{head + c->task->head.values, (const float*)(head + c->task->head.value_scales)};
}

// out[16 * vectors] += sum of p * V over the positions [begin, end), at element d, for `count` queries.
GS_INLINE void AddValues(const Cache* c, const Query* queries, int count, size_t origin, size_t begin, size_t end,
                         KvType type, size_t d, int vectors) {
  VecF acc[kQueryTile][kTileVectors];
  for (int h = 0; h < count; ++h) {
    for (int j = 0; j < vectors; ++j) acc[h][j] = LoadF(queries[h].out + d + (size_t)j * 16);
  }
  for (size_t p = begin; p < end; ++p) {
    const size_t layer = SourceOf(c, p);
    if (layer == kKvDropped) continue;
    const Part v = ValuesOf(c, p / kKvPagePositions, layer);
    VecF values[kTileVectors];
    for (int j = 0; j < vectors; ++j) {
      values[j] = LoadValue(v, p % kKvPagePositions, d + (size_t)j * 16, c->head_dim, type);
    }
    for (int h = 0; h < count; ++h) {
      const VecF weight = SetF(queries[h].scores[p - origin]);
      for (int j = 0; j < vectors; ++j) acc[h][j] = Fma(weight, values[j], acc[h][j]);
    }
  }
  for (int h = 0; h < count; ++h) {
    for (int j = 0; j < vectors; ++j) StoreF(queries[h].out + d + (size_t)j * 16, acc[h][j]);
  }
}

GS_INLINE void AddValuesTyped(const Cache* c, const Query* queries, int count, size_t origin, size_t begin, size_t end,
                              KvType type) {
  size_t d = 0;
  for (; d + kTileVectors * 16 <= c->head_dim; d += kTileVectors * 16) {
    AddValues(c, queries, count, origin, begin, end, type, d, kTileVectors);
  }
  for (; d + 16 <= c->head_dim; d += 16) AddValues(c, queries, count, origin, begin, end, type, d, 1);
  for (; d < c->head_dim; ++d) {
    for (size_t p = begin; p < end; ++p) {
      const size_t layer = SourceOf(c, p);
      if (layer == kKvDropped) continue;
      const float value =
          LoadValueElement(ValuesOf(c, p / kKvPagePositions, layer), p % kKvPagePositions, d, c->head_dim, type);
      for (int h = 0; h < count; ++h) {
        queries[h].out[d] = __builtin_fmaf(queries[h].scores[p - origin], value, queries[h].out[d]);
      }
    }
  }
}

// Constant counts and types, so that the accumulators stay in registers.
#define GS_COUNTS(type)  \
  switch (count) {       \
    GS_COUNT(1, type)    \
    GS_COUNT(2, type)    \
    GS_MORE_COUNTS(type) \
  }
#if defined(__AVX512F__)
#define GS_MORE_COUNTS(type) \
  GS_COUNT(3, type)          \
  GS_COUNT(4, type)          \
  GS_COUNT(5, type)          \
  GS_COUNT(6, type)
#else
#define GS_MORE_COUNTS(type)
#endif

static void TileScores(Part k, KvType type, const Query* queries, int count, size_t head_dim, float scale, size_t at) {
#define GS_COUNT(n, type)                                 \
  case n:                                                 \
    PageScores(k, type, queries, n, head_dim, scale, at); \
    break;
  if (type == KvType::kF16) {
    GS_COUNTS(KvType::kF16)
  } else if (type == KvType::kQ8) {
    GS_COUNTS(KvType::kQ8)
  } else {
    GS_COUNTS(KvType::kF32)
  }
#undef GS_COUNT
}

static void TileValues(const Cache* c, const Query* queries, int count, size_t origin, size_t begin, size_t end) {
  if (begin >= end) return;
#define GS_COUNT(n, type)                                    \
  case n:                                                    \
    AddValuesTyped(c, queries, n, origin, begin, end, type); \
    break;
  if (c->type == KvType::kF16) {
    GS_COUNTS(KvType::kF16)
  } else if (c->type == KvType::kQ8) {
    GS_COUNTS(KvType::kQ8)
  } else {
    GS_COUNTS(KvType::kF32)
  }
#undef GS_COUNT
}
#undef GS_COUNTS
#undef GS_MORE_COUNTS

// A page whose positions [first, last] use the entries of several layers: its keys side by side in f32, zeros where
// there is none. The same arithmetic follows as on a plain page.
static void BlendKeys(const Cache* c, size_t page, size_t first, size_t last, float* blended) {
  const size_t begin = page * kKvPagePositions;
  int32_t source[kKvPagePositions];
  for (size_t i = 0; i < kKvPagePositions; ++i) {
    const size_t p = begin + i;
    source[i] = p < first || p > last ? (int32_t)kKvDropped : (int32_t)SourceOf(c, p);
  }
  for (size_t i = 0; i < c->head_dim * kKvPagePositions; i += 16) StoreF(blended + i, SetF(0.0f));
  for (size_t i = 0; i < kKvPagePositions; ++i) {
    int known = source[i] == (int32_t)kKvDropped;
    for (size_t j = 0; j < i; ++j) known |= source[j] == source[i];
    if (known) continue;
    const Part keys = KeysOf(c, page, (size_t)source[i]);
    for (size_t v = 0; v < kKvPagePositions; v += 16) {
      const VecI taken = Equal(LoadI(source + v), SetI(source[i]));
      for (size_t d = 0; d < c->head_dim; ++d) {
        float* at = blended + d * kKvPagePositions + v;
        StoreF(at, Select(taken, LoadKeys(keys, d, v, c->type), LoadF(at)));
      }
    }
  }
}

// Scores of one page for all queries, those of positions outside a query's own at minus infinity; updates `largest`.
static void ScorePage(const Cache* c, size_t page, size_t origin, size_t first, size_t last, Query* queries,
                      int count) {
  const size_t begin = page * kKvPagePositions;
  const float minus_infinity = -__builtin_inff();
  int uniform = 1, dropped = 0;
  for (size_t i = 0; c->source && i < kKvPagePositions; ++i) {
    const size_t p = begin + i;
    if (p < first || p > last) continue;
    uniform &= c->source[p] == (uint16_t)c->task->layer;
    dropped |= c->source[p] == kKvDropped;
  }
  Part keys = KeysOf(c, page, c->task->layer);
  if (!uniform) {
    BlendKeys(c, page, first, last, c->task->blended_keys);
    keys = Part{(const char*)c->task->blended_keys, 0};
  }
  for (int h = 0; h < count; h += kQueryTile) {
    TileScores(keys, uniform ? c->type : KvType::kF32, queries + h, count - h < kQueryTile ? count - h : kQueryTile,
               c->head_dim, c->task->shape->scale, begin - origin);
  }
  for (int h = 0; h < count; ++h) {
    Query* query = queries + h;
    if (query->last < begin || query->first >= begin + kKvPagePositions) continue;
    float* scores = query->scores + (begin - origin);
    for (size_t i = 0; begin + i < query->first; ++i) scores[i] = minus_infinity;
    for (size_t i = kKvPagePositions; begin + i > query->last + 1; --i) scores[i - 1] = minus_infinity;
    for (size_t i = 0; dropped && i < kKvPagePositions && begin + i <= query->last; ++i) {
      if (c->source[begin + i] == kKvDropped) scores[i] = minus_infinity;
    }
    VecF m = LoadF(scores);
    for (size_t i = 16; i < kKvPagePositions; i += 16) m = MaxF(m, LoadF(scores + i));
    const float page_max = ReduceMax(m);
    query->largest = page_max > query->largest ? page_max : query->largest;
  }
}

// exp(score - largest) of the query's pages in place of the scores; returns their sum.
GS_INLINE float ExpScores(Query* query, size_t origin) {
  const size_t begin = query->first / kKvPagePositions * kKvPagePositions - origin;
  const size_t end = (query->last / kKvPagePositions + 1) * kKvPagePositions - origin;
  VecF sum = SetF(0.0f);
  for (size_t i = begin; i < end; i += 16) {
    const VecF e = ExpF(LoadF(query->scores + i) - SetF(query->largest));
    StoreF(query->scores + i, e);
    sum = sum + e;
  }
  return ReduceAdd(sum);
}

// Values of a tile's queries: what all of them attend to together, what comes before and after it one by one.
static void SumValues(const Cache* c, const Query* queries, int count, size_t origin) {
  size_t begin = queries[0].first, end = queries[0].last + 1;
  for (int h = 1; h < count; ++h) {
    begin = queries[h].first > begin ? queries[h].first : begin;
    end = queries[h].last + 1 < end ? queries[h].last + 1 : end;
  }
  if (begin > end) begin = end = 0;
  const int shared = begin < end;
  for (int h = 0; h < count; ++h) {
    TileValues(c, queries + h, 1, origin, queries[h].first, shared ? begin : queries[h].last + 1);
  }
  if (!shared) return;
  TileValues(c, queries, count, origin, begin, end);
  for (int h = 0; h < count; ++h) TileValues(c, queries + h, 1, origin, end, queries[h].last + 1);
}

static void Attend(const AttentionTask& task) {
  const AttentionShape* shape = task.shape;
  const size_t head_dim = shape->kv.head_dim;
  const size_t group = shape->num_heads / shape->kv.num_kv_heads;
  const Cache cache = {&task, task.rows[0].source, shape->kv.type, head_dim};
  size_t first = (size_t)task.rows[0].first, last = (size_t)task.rows[0].last;
  for (size_t r = 1; r < task.num_rows; ++r) {
    first = (size_t)task.rows[r].first < first ? (size_t)task.rows[r].first : first;
    last = (size_t)task.rows[r].last > last ? (size_t)task.rows[r].last : last;
  }
  const size_t origin = first / kKvPagePositions * kKvPagePositions;
  const size_t stride = (last / kKvPagePositions + 1) * kKvPagePositions - origin;
  const size_t total = task.num_rows * group;
  for (size_t done = 0; done < total; done += kAttentionQueries) {
    Query queries[kAttentionQueries];
    const int count = (int)(total - done < kAttentionQueries ? total - done : kAttentionQueries);
    for (int h = 0; h < count; ++h) {
      const AttentionRow* row = task.rows + (done + (size_t)h) / group;
      const size_t head = task.kv_head * group + (done + (size_t)h) % group;
      queries[h] = Query{row->query + head * head_dim, row->out + head * head_dim, task.scores + (size_t)h * stride,
                         (size_t)row->first,           (size_t)row->last,          -__builtin_inff()};
    }
    for (size_t page = first / kKvPagePositions; page <= last / kKvPagePositions; ++page) {
      ScorePage(&cache, page, origin, first, last, queries, count);
    }
    float total_weight[kAttentionQueries];
    for (int h = 0; h < count; ++h) {
      for (size_t d = 0; d < head_dim; ++d) queries[h].out[d] = 0.0f;
      // Nothing to attend to: the weights are zeros and so is the sum.
      const int none = queries[h].largest == -__builtin_inff();
      if (none) queries[h].largest = 0.0f;
      total_weight[h] = ExpScores(queries + h, origin);
      if (none) total_weight[h] = 1.0f;
    }
    for (int h = 0; h < count; h += kQueryTile) {
      SumValues(&cache, queries + h, count - h < kQueryTile ? count - h : kQueryTile, origin);
    }
    for (int h = 0; h < count; ++h) {
      const VecF inverse = SetF(1.0f / total_weight[h]);
      float* out = queries[h].out;
      size_t d = 0;
      for (; d + 16 <= head_dim; d += 16) StoreF(out + d, LoadF(out + d) * inverse);
      for (; d < head_dim; ++d) out[d] *= inverse[0];
    }
  }
}
