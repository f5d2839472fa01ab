// SPDX-License-Identifier: Apache-2.0
// Which source the n-th training sequence comes from, and how many of that source came before it: a pure function of
// (weights, seed, n) that costs the same for every n, so that a resumed run and every rank of a parallel one find their
// own sequences at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gateskip::train {

class SourceSchedule {
 public:
  // One positive weight per source.
  SourceSchedule(std::span<const double> weights, uint64_t seed);

  struct Draw {
    size_t source;
    int64_t index;  // among the draws of this source
  };
  // n >= 0. Draws n, n+1, ... of one block of 256 are laid out together and kept; not for several threads at once.
  Draw At(int64_t n);

 private:
  std::vector<int64_t> CountsBefore(int64_t n) const;  // of each source, among the first n draws
  void LayOut(int64_t block);

  // Sources are told apart one after the other: of m draws that sources s, s+1, ... share, source s gets
  // floor(m * share[s] / 2^32 + phase[s]), as Bresenham's lines do. So after any number of draws every source has its
  // share but for a few. The last source takes what is left.
  std::vector<uint64_t> share_;  // of 2^32, in [1, 2^32)
  std::vector<uint64_t> phase_;  // of 2^32, by the seed
  uint64_t seed_;
  int64_t block_ = -1;
  std::vector<Draw> draws_;  // of block_, shuffled: a strict alternation would follow that of the batch
};

}  // namespace gateskip::train
