// SPDX-License-Identifier: Apache-2.0
#include "sched/token_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gateskip {
namespace {

TEST(TokenScoresTest, TopIsTheSortedBeginningAndLowerIdsComeFirst) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7919 % 97);  // each value ten times
  const RowScores scores(logits);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater(), [&](int32_t id) { return logits[static_cast<size_t>(id)]; });
  for (const int count : {0, 1, 2, 13, 20}) {
    const std::vector<TokenCandidate> top = scores.Top(count);
    ASSERT_EQ(top.size(), static_cast<size_t>(count));
    for (size_t i = 0; i < top.size(); ++i) {
      EXPECT_EQ(top[i].id, order[i]);
      EXPECT_EQ(top[i].log_prob, scores.LogProb(order[i]));
    }
  }
  EXPECT_TRUE(scores.IsGreedy(order[0]));
  EXPECT_FALSE(scores.IsGreedy(order[1]));
  EXPECT_EQ(RowScores(std::span(logits).first(3)).Top(20).size(), 3U);
}

// The kernel sums exponentials in f32 blocks; a thousand terms lose at most a thousand roundings.
TEST(TokenScoresTest, ProbabilitiesSumToOne) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i)) * 5.0F;
  const RowScores scores(logits);
  double sum = 0;
  for (int32_t id = 0; id < 1000; ++id) sum += std::exp(static_cast<double>(scores.LogProb(id)));
  EXPECT_NEAR(sum, 1.0, 1000 * std::numeric_limits<float>::epsilon());
}

TEST(TokenScoresTest, RefusesWhatIsNoDistribution) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> logits = {0.0F, bad, 1.0F};
    EXPECT_THROW(RowScores{logits}, Error);
  }
}

}  // namespace
}  // namespace gateskip
