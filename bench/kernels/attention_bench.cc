// SPDX-License-Identifier: Apache-2.0
// Attend with the heads of SmolLM2-135M (9 query, 3 KV heads of 64): one row at a position (decode), or 512 rows from
// position 0 (prefill). Arguments: rows, position of the last row, threads.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/kernels.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

void AttendBench(benchmark::State& state) {
  constexpr size_t kHeads = 9, kDim = 64;
  const auto rows = static_cast<size_t>(state.range(0));
  const auto last = static_cast<size_t>(state.range(1));
  ThreadPool pool(static_cast<int>(state.range(2)));
  const AttentionShape shape = {{3, kDim, KvType::kF16}, kHeads, 0.125F};
  const size_t num_pages = last / kKvPagePositions + 1;
  AlignedBuffer<std::byte> memory(num_pages * KvLayerBytes(shape.kv));
  std::vector<std::byte*> pages;
  for (size_t p = 0; p < num_pages; ++p) pages.push_back(memory.data() + p * KvLayerBytes(shape.kv));
  const std::vector<float> kv = RandomFloats(num_pages * kKvPagePositions * 192, 1);
  for (size_t p = 0; p < num_pages * kKvPagePositions; ++p) {
    StoreKv(shape.kv, pages[p / kKvPagePositions], p % kKvPagePositions, kv.data() + p * 192, kv.data() + p * 192);
  }
  const std::vector<float> query = RandomFloats(rows * kHeads * kDim, 2);
  std::vector<float> out(query.size());
  std::vector<AttentionRow> list;
  double attended = 0;
  for (size_t r = 0; r < rows; ++r) {
    const auto position = static_cast<int32_t>(last + 1 - rows + r);
    list.push_back(
        {query.data() + r * kHeads * kDim, out.data() + r * kHeads * kDim, pages.data(), nullptr, 0, position});
    attended += position + 1;
  }
  for (auto _ : state) {
    Attend(shape, 0, list, pool);
    benchmark::ClobberMemory();
  }
  state.counters["OP/s"] =
      benchmark::Counter(attended * kHeads * kDim * 4, benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(AttendBench)
    ->Args({1, 63, 1})
    ->Args({1, 511, 1})
    ->Args({1, 4095, 1})
    ->Args({1, 4095, 2})
    ->Args({512, 511, 1})
    ->Args({512, 511, 2})
    ->UseRealTime();

void StoreKvBench(benchmark::State& state) {
  const KvShape shape = {3, 64, KvType::kF16};
  AlignedBuffer<std::byte> page(KvLayerBytes(shape));
  const std::vector<float> kv = RandomFloats(192, 1);
  size_t slot = 0;
  for (auto _ : state) {
    StoreKv(shape, page.data(), slot, kv.data(), kv.data());
    slot = (slot + 1) % kKvPagePositions;
    benchmark::ClobberMemory();
  }
}
BENCHMARK(StoreKvBench);

}  // namespace
}  // namespace gateskip::kernels
