// SPDX-License-Identifier: Apache-2.0
// The per-row ops at the sizes of SmolLM2-135M. Arguments: rows, threads.
#include <benchmark/benchmark.h>

#include <numeric>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

struct Fixture {
  Fixture(benchmark::State& state, size_t columns)
      : rows(static_cast<size_t>(state.range(0))),
        cols(columns),
        pool(static_cast<int>(state.range(1))),
        a(RandomFloats(rows * cols, 1)),
        b(RandomFloats(rows * cols, 2)),
        weight(RandomFloats(cols, 3)) {}
  MatrixView A() { return {a.data(), rows, cols, cols}; }
  MatrixView B() { return {b.data(), rows, cols, cols}; }

  size_t rows, cols;
  ThreadPool pool;
  std::vector<float> a, b, weight;
};

void Finish(benchmark::State& state, const Fixture& f, size_t matrices) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * f.rows * f.cols * matrices * sizeof(float)));
}

void RmsNormBench(benchmark::State& state) {
  Fixture f(state, 576);
  for (auto _ : state) RmsNorm(f.A(), f.weight, 1e-5F, f.B(), f.pool);
  Finish(state, f, 2);
}

void SiluBench(benchmark::State& state) {
  Fixture f(state, 1536);
  const std::vector<float> fresh = f.a;
  for (auto _ : state) {
    GatedActivation(Activation::kSilu, f.A(), f.B(), f.pool);
    state.PauseTiming();
    f.a = fresh;
    state.ResumeTiming();
  }
  Finish(state, f, 3);
}

void ScatterAddBench(benchmark::State& state) {
  Fixture f(state, 576);
  for (auto _ : state) ScatterAdd(f.A(), {}, nullptr, f.B(), f.pool);
  Finish(state, f, 3);
}

void DotRowsBench(benchmark::State& state) {
  Fixture f(state, 576);
  std::vector<float> scores(f.rows);
  for (auto _ : state) DotRows(f.A(), f.weight, 0.0F, scores, f.pool);
  Finish(state, f, 1);
}

void RopeBench(benchmark::State& state) {
  Fixture f(state, 576);
  std::vector<float> inv_freq(32, 0.5F);
  RopeTable table(inv_freq);
  table.Cover(static_cast<int32_t>(f.rows));
  std::vector<int32_t> positions(f.rows);
  std::iota(positions.begin(), positions.end(), 0);
  for (auto _ : state) Rope(f.A(), 64, RopeLayout::kHalves, table, positions, f.pool);
  Finish(state, f, 2);
}

void LogSumExpBench(benchmark::State& state) {
  Fixture f(state, 49152);
  for (auto _ : state) benchmark::DoNotOptimize(LogSumExp(f.a));
  Finish(state, f, 1);
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1, 1})->Args({1, 2})->Args({512, 1})->Args({512, 2})->UseRealTime();
}
BENCHMARK(RmsNormBench)->Apply(Sizes);
BENCHMARK(SiluBench)->Apply(Sizes);
BENCHMARK(ScatterAddBench)->Apply(Sizes);
BENCHMARK(DotRowsBench)->Apply(Sizes);
BENCHMARK(RopeBench)->Apply(Sizes);
BENCHMARK(LogSumExpBench)->Args({1, 1})->UseRealTime();

}  // namespace
}  // namespace gateskip::kernels
