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

float* Scratch(size_t count) {
  thread_local AlignedBuffer<float> scratch;
  scratch.ReserveDiscarding(count);
  return scratch.data();
}

// Consecutive rows of one sequence that run in one task.
struct RowTile {
  size_t begin, count;
};

std::vector<RowTile> TileRows(std::span<const AttentionRow> rows, size_t group) {
  const size_t most = std::max<size_t>(1, kAttentionQueries / group);
  std::vector<RowTile> tiles;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!tiles.empty() && tiles.back().count < most && rows[tiles.back().begin].pages == rows[i].pages &&
        rows[tiles.back().begin].source == rows[i].source) {
      ++tiles.back().count;
    } else {
      tiles.push_back({i, 1});
    }
  }
  return tiles;
}

}  // namespace

size_t KvLayerBytes(const KvShape& shape) {
  return shape.num_kv_heads * 2 * shape.head_dim * kKvPagePositions * ElementBytes(shape.type);
}

namespace {

// [head_dim] keys into their slot's column, [head_dim] values into their slot's row.
template <typename T>
void StoreHead(std::byte* keys, std::byte* values, size_t slot, size_t head_dim, const T* k, const T* v) {
  auto* column = reinterpret_cast<T*>(keys) + slot;
  for (size_t d = 0; d < head_dim; ++d) column[d * kKvPagePositions] = k[d];
  std::memcpy(values + slot * head_dim * sizeof(T), v, head_dim * sizeof(T));
}

}  // namespace

void StoreKv(const KvShape& shape, std::byte* page_layer, size_t slot, const float* k, const float* v) {
  const size_t head_bytes = shape.head_dim * kKvPagePositions * ElementBytes(shape.type);
  const size_t width = shape.num_kv_heads * shape.head_dim;
  thread_local AlignedBuffer<uint16_t> halves;
  if (shape.type == KvType::kF16) {
    halves.ReserveDiscarding(2 * width);
    ActiveKernels().to_half(k, width, halves.data());
    ActiveKernels().to_half(v, width, halves.data() + width);
  }
  for (size_t h = 0; h < shape.num_kv_heads; ++h) {
    std::byte* keys = page_layer + h * 2 * head_bytes;
    const size_t at = h * shape.head_dim;
    if (shape.type == KvType::kF16) {
      StoreHead(keys, keys + head_bytes, slot, shape.head_dim, halves.data() + at, halves.data() + width + at);
    } else {
      StoreHead(keys, keys + head_bytes, slot, shape.head_dim, k + at, v + at);
    }
  }
}

void Attend(const AttentionShape& shape, size_t layer, std::span<const AttentionRow> rows, ThreadPool& pool) {
  GS_CHECK(shape.kv.num_kv_heads > 0 && shape.num_heads % shape.kv.num_kv_heads == 0);
  const size_t layer_bytes = KvLayerBytes(shape.kv);
  const size_t group = shape.num_heads / shape.kv.num_kv_heads;
  const KernelTable& kernels = ActiveKernels();
  const std::vector<RowTile> tiles = TileRows(rows, group);
  const size_t blended = shape.kv.head_dim * kKvPagePositions;
  const auto run = [&](size_t task) {
    const RowTile& tile = tiles[task / shape.kv.num_kv_heads];
    size_t last = 0;
    for (size_t r = tile.begin; r < tile.begin + tile.count; ++r) {
      last = std::max(last, static_cast<size_t>(rows[r].last));
    }
    float* scratch = Scratch(blended + kAttentionQueries * RoundUp(last + 1, kKvPagePositions));
    kernels.attend({.shape = &shape,
                    .layer = layer,
                    .layer_bytes = layer_bytes,
                    .rows = &rows[tile.begin],
                    .num_rows = tile.count,
                    .kv_head = task % shape.kv.num_kv_heads,
                    .scores = scratch + blended,
                    .blended_keys = scratch});
  };
  // A row's work grows with its position: interleave instead of splitting in halves.
  const size_t tasks = tiles.size() * shape.kv.num_kv_heads;
  size_t work = 0;
  for (const AttentionRow& row : rows) work += static_cast<size_t>(row.last - row.first + 1) * shape.kv.head_dim;
  if (work * shape.kv.num_kv_heads < 8192) {
    for (size_t i = 0; i < tasks; ++i) run(i);
    return;
  }
  const auto threads = static_cast<size_t>(pool.num_threads());
  pool.Run([&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < tasks; i += threads) run(i);
  });
}

}  // namespace gateskip::kernels
