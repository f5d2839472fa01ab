// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: every consumer draws from (seed, stream, index), so nothing has to be saved to
// resume a run bit for bit, and no consumer shifts another's draws.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace gateskip::train {

enum class Stream : uint64_t { kInit = 1, kShuffle, kSource, kBudget, kNoise, kPositions, kSynthetic, kExit };

// SplitMix64 finaliser (Steele, Lea, Flood 2014).
inline uint64_t Mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

class Random {
 public:
  Random(uint64_t seed, Stream stream, uint64_t index = 0)
      : key_(Mix64(Mix64(Mix64(seed) ^ static_cast<uint64_t>(stream)) ^ index)) {}

  uint64_t Next() { return Mix64(key_ ^ Mix64(counter_++)); }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }  // [0, 1)
  uint64_t Below(uint64_t n) { return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * n) >> 64); }
  double Logistic() {
    const double u = std::min(std::max(Uniform(), 1e-12), 1.0 - 1e-12);
    return std::log(u / (1.0 - u));
  }
  double Normal() {  // Box-Muller, one of the pair
    const double r = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
    return r * std::cos(6.283185307179586 * Uniform());
  }

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

// A permutation of 0..n-1 (Fisher-Yates).
inline std::vector<int64_t> Permutation(int64_t n, Random random) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[random.Below(static_cast<uint64_t>(i) + 1)]);
  }
  return order;
}

}  // namespace gateskip::train
