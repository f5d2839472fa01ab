// SPDX-License-Identifier: Apache-2.0
// The KV page layout, and attention over rows and KV heads.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/packed_layout.h"
#include "tensor/dequantize.h"

namespace gateskip::kernels {
namespace {

size_t ElementBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }

void StoreElement(KvType type, std::byte* base, size_t index, float value) {
  if (type == KvType::kF16) {
    const uint16_t half = FloatToHalf(value);
    std::memcpy(base + index * 2, &half, 2);
  } else {
    std::memcpy(base + index * 4, &value, 4);
  }
}

float* ScoreScratch(size_t count) {
  thread_local AlignedBuffer<float> scratch;
  scratch.ReserveDiscarding(count);
  return scratch.data();
}

}  // namespace

size_t KvLayerBytes(const KvShape& shape) {
  return shape.num_kv_heads * 2 * shape.head_dim * kKvPagePositions * ElementBytes(shape.type);
}

void StoreKv(const KvShape& shape, std::byte* page_layer, size_t slot, const float* k, const float* v) {
  const size_t head_bytes = shape.head_dim * kKvPagePositions * ElementBytes(shape.type);
  for (size_t h = 0; h < shape.num_kv_heads; ++h) {
    std::byte* keys = page_layer + h * 2 * head_bytes;
    std::byte* values = keys + head_bytes;
    for (size_t d = 0; d < shape.head_dim; ++d) {
      StoreElement(shape.type, keys, d * kKvPagePositions + slot, k[h * shape.head_dim + d]);
      StoreElement(shape.type, values, slot * shape.head_dim + d, v[h * shape.head_dim + d]);
    }
  }
}

void Attend(const AttentionShape& shape, size_t layer, std::span<const AttentionRow> rows, ThreadPool& pool) {
  GS_CHECK(shape.kv.num_kv_heads > 0 && shape.num_heads % shape.kv.num_kv_heads == 0);
  const size_t layer_bytes = KvLayerBytes(shape.kv);
  const size_t group = shape.num_heads / shape.kv.num_kv_heads;
  const KernelTable& kernels = ActiveKernels();
  const auto run = [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const AttentionRow& row = rows[i / shape.kv.num_kv_heads];
      const size_t positions = RoundUp(static_cast<size_t>(row.last) + 1, kKvPagePositions);
      kernels.attend({&shape, layer, layer_bytes, &row, i % shape.kv.num_kv_heads, ScoreScratch(group * positions)});
    }
  };
  // A row's work grows with its position: interleave instead of splitting in halves.
  const size_t tasks = rows.size() * shape.kv.num_kv_heads;
  size_t work = 0;
  for (const AttentionRow& row : rows) work += static_cast<size_t>(row.last - row.first + 1) * shape.kv.head_dim;
  if (work * shape.kv.num_kv_heads < 8192) {
    run(0, tasks, 0);
    return;
  }
  const auto threads = static_cast<size_t>(pool.num_threads());
  pool.Run([&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < tasks; i += threads) run(i, i + 1, thread);
  });
}

}  // namespace gateskip::kernels
