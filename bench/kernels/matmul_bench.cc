// SPDX-License-Identifier: Apache-2.0
// MatMul at decode (1 row) and prefill (512 rows) shapes, PackRows, and the memory bandwidth they are held against.
// Decode cycles through copies of the weight larger than the private caches, as a model's layers do.
// Arguments: out features, in features, rows, threads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

constexpr size_t kStreamedBytes = size_t{128} << 20;

// Sums of a buffer much larger than the private caches: what the memory gives to plain loads.
void ReadBandwidth(benchmark::State& state) {
  const size_t count = size_t{256} << 20 >> 3;
  AlignedBuffer<uint64_t> buffer(count);
  std::fill(buffer.data(), buffer.data() + count, 1);
  ThreadPool pool(static_cast<int>(state.range(0)));
  std::vector<uint64_t> totals(static_cast<size_t>(pool.num_threads()) * 8);
  for (auto _ : state) {
    pool.ParallelFor(count, 4096, [&](size_t begin, size_t end, int thread) {
      uint64_t sums[8] = {};
      for (size_t i = begin; i + 8 <= end; i += 8) {
        for (size_t j = 0; j < 8; ++j) sums[j] += buffer[i + j];
      }
      for (const uint64_t sum : sums) totals[static_cast<size_t>(thread) * 8] += sum;
    });
    benchmark::DoNotOptimize(totals.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(buffer.bytes()));
}

void MatMulBench(benchmark::State& state, DType dtype, PackFormat format) {
  const auto out = static_cast<size_t>(state.range(0));
  const auto in = static_cast<size_t>(state.range(1));
  const auto rows = static_cast<size_t>(state.range(2));
  ThreadPool pool(static_cast<int>(state.range(3)));
  const RandomTensor tensor(dtype, out, in, 1);
  std::deque<PackedMatrix> copies;
  do {
    copies.push_back(PackWeights(tensor.view(), format, pool));
  } while (rows < 8 && copies.back().bytes * (copies.size() + 1) <= kStreamedBytes);
  const std::vector<float> x = RandomFloats(rows * in, 2);
  PackedRows packed;
  PackRows({x.data(), rows, in, in}, {}, true, &packed, pool);
  AlignedBuffer<float> result(rows * out);
  size_t next = 0;
  for (auto _ : state) {
    const Product product = {&copies[next], {result.data(), rows, out, out}};
    MatMul(packed, {&product, 1}, pool);
    next = (next + 1) % copies.size();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(copies[0].bytes));
  state.counters["OP/s"] =
      benchmark::Counter(2.0 * static_cast<double>(out * in * rows), benchmark::Counter::kIsIterationInvariantRate);
}

void Shapes(benchmark::internal::Benchmark* b) {
  for (const int64_t threads : {1, 2}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}, {576, 1536}}) {
      b->Args({out, in, 1, threads});
      b->Args({out, in, 512, threads});
    }
  }
  b->UseRealTime();
}

void Head(benchmark::internal::Benchmark* b) {
  for (const int64_t threads : {1, 2}) b->Args({49152, 576, 1, threads});
  b->UseRealTime();
}

void OneShape(benchmark::internal::Benchmark* b) {
  for (const int64_t rows : {1, 4, 16, 512}) b->Args({1536, 1536, rows, 1});
  b->UseRealTime();
}

void PackRowsBench(benchmark::State& state) {
  const auto rows = static_cast<size_t>(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  const std::vector<float> x = RandomFloats(rows * 576, 2);
  PackedRows packed;
  for (auto _ : state) {
    PackRows({x.data(), rows, 576, 576}, {}, true, &packed, pool);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * x.size() * sizeof(float)));
}

// An empty parallel region: what every op of a decode step pays on top of its work.
void EmptyRegion(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) pool.Run([](int) {});
}

BENCHMARK(ReadBandwidth)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(EmptyRegion)->Arg(1)->Arg(2)->Arg(4)->UseRealTime();
BENCHMARK_CAPTURE(MatMulBench, Q4_1, DType::kQ4_1, PackFormat::kNative)->Apply(Shapes);
BENCHMARK_CAPTURE(MatMulBench, Q8_0_head, DType::kQ8_0, PackFormat::kNative)->Apply(Head);
BENCHMARK_CAPTURE(MatMulBench, Q4_0, DType::kQ4_0, PackFormat::kNative)->Apply(OneShape);
BENCHMARK_CAPTURE(MatMulBench, Q8_0, DType::kQ8_0, PackFormat::kNative)->Apply(OneShape);
BENCHMARK_CAPTURE(MatMulBench, Q4_K, DType::kQ4_K, PackFormat::kNative)->Apply(OneShape);
BENCHMARK_CAPTURE(MatMulBench, Q6_K, DType::kQ6_K, PackFormat::kNative)->Apply(OneShape);
BENCHMARK_CAPTURE(MatMulBench, F32, DType::kF32, PackFormat::kF32)->Apply(OneShape);
BENCHMARK_CAPTURE(MatMulBench, F16, DType::kF16, PackFormat::kNative)->Apply(OneShape);
BENCHMARK(PackRowsBench)->Args({1, 1})->Args({512, 1})->Args({512, 2})->UseRealTime();

}  // namespace
}  // namespace gateskip::kernels
