// SPDX-License-Identifier: Apache-2.0
#include "train/source_schedule.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "train/random.h"

namespace gateskip::train {
namespace {

constexpr int64_t kBlock = 256;
constexpr double kOne = 4294967296.0;  // 2^32

}  // namespace

SourceSchedule::SourceSchedule(std::span<const double> weights, uint64_t seed) : seed_(seed) {
  GS_CHECK(!weights.empty());
  double left = 0;
  for (const double weight : weights) left += weight;
  for (size_t s = 0; s + 1 < weights.size(); ++s) {
    const double share = std::clamp(std::floor(weights[s] / left * kOne), 1.0, kOne - 1);
    share_.push_back(static_cast<uint64_t>(share));
    phase_.push_back(Random(seed, Stream::kSource, s).Below(uint64_t{1} << 32));
    left -= weights[s];
  }
}

std::vector<int64_t> SourceSchedule::CountsBefore(int64_t n) const {
  std::vector<int64_t> counts;
  auto left = static_cast<uint64_t>(n);
  for (size_t s = 0; s < share_.size(); ++s) {
    const auto count = static_cast<uint64_t>((static_cast<unsigned __int128>(left) * share_[s] + phase_[s]) >> 32);
    counts.push_back(static_cast<int64_t>(count));
    left -= count;
  }
  counts.push_back(static_cast<int64_t>(left));
  return counts;
}

void SourceSchedule::LayOut(int64_t block) {
  std::vector<int64_t> counts = CountsBefore(block * kBlock);
  const std::vector<int64_t> after = CountsBefore((block + 1) * kBlock);
  std::vector<size_t> sources;
  for (size_t s = 0; s < counts.size(); ++s) {
    sources.insert(sources.end(), static_cast<size_t>(after[s] - counts[s]), s);
  }
  GS_CHECK(sources.size() == static_cast<size_t>(kBlock));
  // Stream kSource with indices of its own: the phases have the small ones.
  const auto order =
      Permutation(kBlock, Random(seed_, Stream::kSource, (uint64_t{1} << 63) + static_cast<uint64_t>(block)));
  draws_.clear();
  for (const int64_t i : order) {
    const size_t s = sources[static_cast<size_t>(i)];
    draws_.push_back({s, counts[s]++});
  }
  block_ = block;
}

SourceSchedule::Draw SourceSchedule::At(int64_t n) {
  if (share_.empty()) return {0, n};
  if (n / kBlock != block_) LayOut(n / kBlock);
  return draws_[static_cast<size_t>(n % kBlock)];
}

}  // namespace gateskip::train
