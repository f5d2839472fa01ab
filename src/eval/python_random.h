// SPDX-License-Identifier: Apache-2.0
// Python's random.Random(seed) for seeds >= 0, number for number: the harness draws few-shot examples and bootstrap
// resamples with it, and so the same seed gives the same prompts here. MT19937 (Matsumoto and Nishimura, 1998) seeded
// by init_by_array; the draws after CPython 3.11, Lib/random.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gateskip {

class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);

  uint32_t NextWord();
  double Uniform();  // random(): [0, 1), 53 bits
  // randrange(n); 1 <= n < 2^32.
  uint32_t Below(uint32_t n);
  // choices(range(n))[0]; n >= 1.
  size_t Choice(size_t n) { return static_cast<size_t>(Uniform() * static_cast<double>(n)); }
  // sample(range(n), k): k different indices; k <= n < 2^32.
  std::vector<size_t> Sample(size_t n, size_t k);

 private:
  static constexpr size_t kWords = 624;
  void Refill();

  std::array<uint32_t, kWords> state_ = {};
  size_t next_ = kWords;
};

}  // namespace gateskip
