// SPDX-License-Identifier: Apache-2.0
// The KV page layout, and attention over rows and KV heads.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/packed_layout.h"
#include "tensor/dequantize.h"

namespace gateskip::kernels {
namespace {

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

std::string_view KvTypeName(KvType type) {
  switch (type) {
    case KvType::kF16:
      return "f16";
    case KvType::kF32:
      return "f32";
    case KvType::kQ8:
      return "q8_0";
  }
  return "unknown";
}

KvHeadLayout LayoutOfKvHead(const KvShape& shape) {
  const size_t element = shape.type == KvType::kQ8 ? 1 : shape.type == KvType::kF16 ? 2 : 4;
  const size_t elements = shape.head_dim * kKvPagePositions * element;
  const size_t scales = shape.type == KvType::kQ8 ? NumBlocks(shape.head_dim) * kKvPagePositions * sizeof(float) : 0;
  return {.values = elements,
          .key_scales = 2 * elements,
          .value_scales = 2 * elements + scales,
          .bytes = 2 * (elements + scales)};
}

size_t KvLayerBytes(const KvShape& shape) { return shape.num_kv_heads * LayoutOfKvHead(shape).bytes; }

namespace {

// One key into its slot's column, one value into its slot's row.
template <typename T>
void StoreKey(std::byte* keys, size_t slot, size_t count, const T* key) {
  auto* column = reinterpret_cast<T*>(keys) + slot;
  for (size_t d = 0; d < count; ++d) column[d * kKvPagePositions] = key[d];
}
template <typename T>
void StoreValue(std::byte* values, size_t slot, size_t count, const T* value) {
  std::memcpy(values + slot * count * sizeof(T), value, count * sizeof(T));
}

void StoreHalves(const KvHeadLayout& at, std::byte* head, size_t slot, size_t head_dim, const float* k,
                 const float* v) {
  thread_local AlignedBuffer<uint16_t> halves;
  halves.ReserveDiscarding(head_dim);
  ActiveKernels().to_half(k, head_dim, halves.data());
  StoreKey(head, slot, head_dim, halves.data());
  ActiveKernels().to_half(v, head_dim, halves.data());
  StoreValue(head + at.values, slot, head_dim, halves.data());
}

void StoreCodes(const KvHeadLayout& at, std::byte* head, size_t slot, size_t head_dim, const float* k, const float* v) {
  const size_t blocks = NumBlocks(head_dim);
  thread_local AlignedBuffer<int8_t> codes;
  thread_local AlignedBuffer<float> scales, unused;
  thread_local AlignedBuffer<int32_t> sums;
  codes.ReserveDiscarding(blocks * kBlock);
  scales.ReserveDiscarding(blocks);
  unused.ReserveDiscarding(blocks);
  sums.ReserveDiscarding(2 * blocks);
  const QuantizedRow row = {codes.data(), scales.data(), sums.data(), unused.data()};
  ActiveKernels().quantize_row(k, head_dim, row);
  StoreKey(head, slot, head_dim, row.codes);
  StoreKey(head + at.key_scales, slot, blocks, row.scales);
  ActiveKernels().quantize_row(v, head_dim, row);
  StoreValue(head + at.values, slot, head_dim, row.codes);
  StoreValue(head + at.value_scales, slot, blocks, row.scales);
}

}  // namespace

void StoreKv(const KvShape& shape, std::byte* page_layer, size_t slot, const float* k, const float* v) {
  const KvHeadLayout at = LayoutOfKvHead(shape);
  const size_t d = shape.head_dim;
  for (size_t h = 0; h < shape.num_kv_heads; ++h, page_layer += at.bytes, k += d, v += d) {
    switch (shape.type) {
      case KvType::kF16:
        StoreHalves(at, page_layer, slot, d, k, v);
        break;
      case KvType::kQ8:
        StoreCodes(at, page_layer, slot, d, k, v);
        break;
      case KvType::kF32:
        StoreKey(page_layer, slot, d, k);
        StoreValue(page_layer + at.values, slot, d, v);
        break;
    }
  }
}

void Attend(const AttentionShape& shape, size_t layer, std::span<const AttentionRow> rows, ThreadPool& pool) {
  GS_CHECK(shape.kv.num_kv_heads > 0 && shape.num_heads % shape.kv.num_kv_heads == 0);
  const KvHeadLayout head = LayoutOfKvHead(shape.kv);
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
                    .head = head,
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
