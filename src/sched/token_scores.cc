// SPDX-License-Identifier: Apache-2.0
#include "sched/token_scores.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/kernels.h"

namespace gateskip {

RowScores::RowScores(std::span<const float> logits)
    : logits_(logits), log_sum_(kernels::LogSumExp(logits)), best_(static_cast<int32_t>(kernels::ArgMax(logits))) {
  if (std::isfinite(log_sum_)) return;
  Fail(ErrorCode::kCorruptData,
       "[scores] logits: expected numbers with a finite sum of exponentials, found {}; the model or the adapter is "
       "damaged",
       log_sum_);
}

std::vector<TokenCandidate> RowScores::Top(int count) const {
  // A heap with the worst of the kept on top; nearly every logit fails the first comparison.
  const auto better = [](const TokenCandidate& a, const TokenCandidate& b) {
    return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.id < b.id);
  };
  const size_t kept = std::min(static_cast<size_t>(count), logits_.size());
  std::vector<TokenCandidate> top;
  for (size_t i = 0; i < logits_.size() && kept > 0; ++i) {
    if (top.size() == kept) {
      if (logits_[i] <= top.front().log_prob) continue;
      std::ranges::pop_heap(top, better);
      top.pop_back();
    }
    top.push_back({static_cast<int32_t>(i), logits_[i]});
    std::ranges::push_heap(top, better);
  }
  std::ranges::sort(top, better);
  for (TokenCandidate& candidate : top) candidate.log_prob -= log_sum_;
  return top;
}

void RowScores::Write(int32_t id, size_t index, int top, ScoredTokens* scored) const {
  scored->log_probs[index] = LogProb(id);
  scored->is_greedy[index] = IsGreedy(id) ? 1 : 0;
  if (top > 0) scored->top[index] = Top(top);
}

void ReserveScores(size_t tokens, int top, ScoredTokens* scored) {
  scored->log_probs.resize(tokens);
  scored->is_greedy.resize(tokens);
  if (top > 0) scored->top.resize(tokens);
}

}  // namespace gateskip
