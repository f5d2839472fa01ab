// SPDX-License-Identifier: Apache-2.0
#include "bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"

namespace gateskip::cli {
namespace {

constexpr size_t kWords = (size_t{256} << 20) / sizeof(uint64_t);
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

}  // namespace

double MeasureReadBandwidth(int threads) {
  AlignedBuffer<uint64_t> buffer(kWords);
  ThreadPool pool(std::clamp(threads, 1, 256));
  pool.ParallelFor(kWords, 4096, [&](size_t begin, size_t end, int) {
    std::memset(buffer.data() + begin, 1, (end - begin) * sizeof(uint64_t));
  });
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(kWords, 4096, [&](size_t begin, size_t end, int) {
      sink.fetch_add(SumWords(buffer.data() + begin, end - begin), std::memory_order_relaxed);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (seconds > 0) best = std::max(best, static_cast<double>(buffer.bytes()) / seconds);
  }
  return sink.load() == 0 ? 0 : best;  // reading the sink keeps the loop alive
}

}  // namespace gateskip::cli
