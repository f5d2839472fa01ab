// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of tokens from one row of logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sched/request.h"

namespace gateskip {

class RowScores {
 public:
  // `logits` [vocab] outlive it. Throws Error(kCorruptData) if they make no distribution: NaN, infinities.
  explicit RowScores(std::span<const float> logits);

  float LogProb(int32_t id) const { return logits_[static_cast<size_t>(id)] - log_sum_; }
  bool IsGreedy(int32_t id) const { return id == best_; }
  // The `count` likeliest, best first; among equals the lower id comes first.
  std::vector<TokenCandidate> Top(int count) const;
  // Sets the scores of the index-th token.
  void Write(int32_t id, size_t index, int top, ScoredTokens* scored) const;

 private:
  std::span<const float> logits_;
  float log_sum_;
  int32_t best_;
};

// Room for `tokens` scores; for candidates too if `top` > 0.
void ReserveScores(size_t tokens, int top, ScoredTokens* scored);

}  // namespace gateskip
