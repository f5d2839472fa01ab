// SPDX-License-Identifier: Apache-2.0
#include "machine_peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace gateskip::cli {
namespace {

constexpr size_t kWords = (size_t{256} << 20) / sizeof(uint64_t);
constexpr size_t kDotRounds = size_t{1} << 18;  // a few milliseconds
constexpr int kPasses = 4;

// Independent sums, so that the loads and not the additions are the limit; the compiler vectorises them.
uint64_t SumWords(const uint64_t* words, size_t count) {
  constexpr size_t kLanes = 32;
  uint64_t sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

// What `pass` returns per second, at its best.
double BestRate(FunctionRef<double()> pass) {
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const double done = pass();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (seconds > 0) best = std::max(best, done / seconds);
  }
  return best;
}

double ReadBytes(ThreadPool& pool) {
  AlignedBuffer<uint64_t> buffer(kWords);
  pool.ParallelFor(kWords, 4096, [&](size_t begin, size_t end, int) {
    std::memset(buffer.data() + begin, 1, (end - begin) * sizeof(uint64_t));
  });
  std::atomic<uint64_t> sink{0};
  const double rate = BestRate([&] {
    pool.ParallelFor(kWords, 4096, [&](size_t begin, size_t end, int) {
      sink.fetch_add(SumWords(buffer.data() + begin, end - begin), std::memory_order_relaxed);
    });
    return static_cast<double>(buffer.bytes());
  });
  return sink.load() == 0 ? 0 : rate;  // reading the sink keeps the loop alive
}

double DotOperations(ThreadPool& pool) {
  return BestRate([&] {
    std::atomic<uint64_t> done{0};
    pool.Run([&](int) { done.fetch_add(kernels::RunDotProducts(kDotRounds), std::memory_order_relaxed); });
    return static_cast<double>(done.load());
  });
}

}  // namespace

MachinePeaks MeasurePeaks(int threads) {
  ThreadPool pool(std::clamp(threads, 1, 256));
  return {.read_bytes = ReadBytes(pool), .dot_operations = DotOperations(pool)};
}

}  // namespace gateskip::cli
