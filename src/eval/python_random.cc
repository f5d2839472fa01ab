// SPDX-License-Identifier: Apache-2.0
#include "eval/python_random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "base/check.h"

namespace gateskip {

PythonRandom::PythonRandom(uint64_t seed) {
  state_[0] = 19650218;
  for (uint32_t i = 1; i < kWords; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const uint32_t key_words = key[1] != 0 ? 2 : 1;
  uint32_t i = 1;
  const auto advance = [&] {
    if (++i < kWords) return;
    state_[0] = state_[kWords - 1];
    i = 1;
  };
  const auto mixed = [&](uint32_t factor) { return state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * factor); };
  for (uint32_t round = 0; round < kWords; ++round) {
    const uint32_t j = round % key_words;
    state_[i] = mixed(1664525u) + key[j] + j;
    advance();
  }
  for (uint32_t round = 1; round < kWords; ++round) {
    state_[i] = mixed(1566083941u) - i;
    advance();
  }
  state_[0] = 0x80000000u;
}

void PythonRandom::Refill() {
  constexpr size_t kShift = 397;
  for (size_t i = 0; i < kWords; ++i) {
    const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kWords] & 0x7FFFFFFFu);
    state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908B0DFu : 0);
  }
  next_ = 0;
}

uint32_t PythonRandom::NextWord() {
  if (next_ == kWords) Refill();
  uint32_t y = state_[next_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9D2C5680u;
  y ^= (y << 15) & 0xEFC60000u;
  return y ^ (y >> 18);
}

double PythonRandom::Uniform() {
  const uint32_t high = NextWord() >> 5;
  const uint32_t low = NextWord() >> 6;
  return (high * 67108864.0 + low) * (1.0 / 9007199254740992.0);
}

uint32_t PythonRandom::Below(uint32_t n) {
  GS_CHECK(n > 0);
  const auto unused_bits = static_cast<uint32_t>(std::countl_zero(n));
  while (true) {
    const uint32_t drawn = NextWord() >> unused_bits;
    if (drawn < n) return drawn;
  }
}

std::vector<size_t> PythonRandom::Sample(size_t n, size_t k) {
  GS_CHECK(k <= n && n <= UINT32_MAX);
  std::vector<size_t> sample;
  double pool_limit = 21;  // up to here a pool is cheaper than a set; the two draw differently
  if (k > 5) pool_limit += std::pow(4.0, std::ceil(std::log(static_cast<double>(k) * 3) / std::log(4.0)));
  if (static_cast<double>(n) <= pool_limit) {
    std::vector<size_t> pool(n);
    for (size_t i = 0; i < n; ++i) pool[i] = i;
    for (size_t i = 0; i < k; ++i) {
      const size_t drawn = Below(static_cast<uint32_t>(n - i));
      sample.push_back(pool[drawn]);
      pool[drawn] = pool[n - i - 1];
    }
    return sample;
  }
  std::set<size_t> taken;
  while (sample.size() < k) {
    const size_t drawn = Below(static_cast<uint32_t>(n));
    if (taken.insert(drawn).second) sample.push_back(drawn);
  }
  return sample;
}

}  // namespace gateskip
