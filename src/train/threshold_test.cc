// SPDX-License-Identifier: Apache-2.0
// The trainer's global threshold: against brute force over its own definition and against gate/cost_model.h's account
// of what was skipped, and the running curve of thresholds by budget.
#include "train/threshold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace gateskip::train {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kRows = 50;
constexpr int kBranches = 8;

AdapterConfig Adapter() {
  AdapterConfig adapter;
  adapter.gated.assign(kBranches, true);
  adapter.gated[3] = false;
  adapter.skip_rank = 1;
  adapter.lora_rank = 2;
  adapter.lora_targets = {"attn_k", "ffn_down"};
  return adapter;
}

// Logits of the gated branches, all different; the first row always runs.
class ThresholdTest : public ::testing::TestWithParam<KvRule> {
 protected:
  void SetUp() override {
    std::mt19937 random(17);
    z_.resize(kBranches);
    for (int b = 0; b < kBranches; ++b) {
      if (b == 3) continue;
      for (int64_t r = 1; r < kRows; ++r) {
        z_[static_cast<size_t>(b)].push_back(static_cast<float>(random() >> 8) * 0x1p-21F -
                                             4.0F);  // 24 bits in [-4, 4)
      }
      logits_.push_back({b, z_[static_cast<size_t>(b)]});
      all_.insert(all_.end(), z_[static_cast<size_t>(b)].begin(), z_[static_cast<size_t>(b)].end());
    }
    std::sort(all_.begin(), all_.end());
    ASSERT_EQ(std::adjacent_find(all_.begin(), all_.end()), all_.end());
  }
  double Saving(double threshold) const { return SavingAt(cost_, GetParam(), logits_, kRows, threshold); }

  const CostModel cost_{{.num_layers = 4, .hidden_size = 16, .query_size = 16, .kv_size = 8, .ffn_size = 40},
                        Adapter()};
  std::vector<std::vector<float>> z_;
  std::vector<BranchLogits> logits_;
  std::vector<float> all_;
};

TEST_P(ThresholdTest, SavingIsWhatTheCostModelCounts) {
  for (const double threshold : {-kInfinity, -1.5, 0.0, 2.0, kInfinity}) {
    SkipCounts counts(kBranches);
    for (size_t b = 0; b < kBranches; ++b) {
      counts.decided[b] = b == 3 ? 0 : kRows;
      const auto skipped = static_cast<uint64_t>(
          std::count_if(z_[b].begin(), z_[b].end(), [&](float z) { return static_cast<double>(z) <= threshold; }));
      counts.skipped[b] = skipped;
      counts.run[b] = kRows - skipped;
      counts.kv_only[b] = GetParam() == KvRule::kCompute && b % 2 == 0 ? skipped : 0;
    }
    // Two sums of some 400 shares below 1 each, in f64.
    EXPECT_NEAR(Saving(threshold), cost_.NetSaving(counts), 1000 * 0x1p-53) << threshold;
  }
}

TEST_P(ThresholdTest, SolvesForTheFewestSkipsThatMeetTheBudget) {
  for (const double budget : {0.0, 0.01, 0.1, 0.25, 0.4, 0.6}) {
    SCOPED_TRACE(budget);
    const double threshold = SolveThreshold(cost_, GetParam(), logits_, kRows, budget);
    ASSERT_TRUE(std::isfinite(threshold));
    EXPECT_GE(Saving(threshold), budget - 1e-12);
    // The highest logit that is skipped: without it, the budget would not be met.
    const auto above = std::upper_bound(all_.begin(), all_.end(), threshold,
                                        [](double t, float z) { return t < static_cast<double>(z); });
    ASSERT_NE(above, all_.begin());
    EXPECT_LT(Saving(std::nextafter(static_cast<double>(*(above - 1)), -kInfinity)), budget);
    // Half way to the next logit: rounding to f32 does not change the decision.
    EXPECT_NEAR(threshold, 0.5 * (static_cast<double>(*(above - 1)) + static_cast<double>(*above)), 1e-12);
  }
}

TEST_P(ThresholdTest, BudgetsOutOfReach) {
  EXPECT_EQ(SolveThreshold(cost_, GetParam(), logits_, kRows, 0.99), kInfinity);
  EXPECT_EQ(SolveThreshold(cost_, GetParam(), logits_, kRows, Saving(-kInfinity) - 1e-9), -kInfinity)
      << "met by skipping nothing";
  EXPECT_LT(Saving(-kInfinity), 0) << "decisions and deltas cost something";
}

TEST_P(ThresholdTest, KvThatIsComputedAnywaySavesNothing) {
  if (GetParam() == KvRule::kCompute) return;
  EXPECT_GT(Saving(0.0), SavingAt(cost_, KvRule::kCompute, logits_, kRows, 0.0));
}

INSTANTIATE_TEST_SUITE_P(KvRules, ThresholdTest, ::testing::Values(KvRule::kCompute, KvRule::kCopy, KvRule::kDrop));

TEST(ThresholdCurve, InterpolatesBetweenItsPoints) {
  ThresholdCurve curve;
  for (int i = 0; i < ThresholdCurve::kPoints; ++i) curve.Set(i, i * i);
  for (int i = 0; i < ThresholdCurve::kPoints; ++i) EXPECT_NEAR(curve.At(i * 0.05), i * i, 1e-12);
  EXPECT_NEAR(curve.At(0.125), 0.5 * (4 + 9), 1e-12);
  EXPECT_NEAR(curve.At(0.5875), 0.25 * 121 + 0.75 * 144, 1e-12);
  EXPECT_EQ(curve.At(-1), 0);
  EXPECT_EQ(curve.At(0.7), 144);
}

TEST(ThresholdCurve, MovesTowardsWhatMetTheBudget) {
  ThresholdCurve curve;
  curve.Update(0.25, 2.0, 0.5);
  EXPECT_NEAR(curve.At(0.25), 1.0, 1e-12) << "half of the way there";
  for (int i = 1; i < ThresholdCurve::kPoints; ++i) {
    const double before = curve.At((i - 1) * 0.05);
    const double here = curve.At(i * 0.05);
    EXPECT_TRUE(i <= 5 ? here > before : here < before) << "most at the budget itself: point " << i;
    EXPECT_GT(here, 0);
  }
  const std::vector<double> values = curve.values();
  curve.Update(0.25, kInfinity, 0.5);
  curve.Update(0.25, -kInfinity, 0.5);
  curve.Update(0.25, std::nan(""), 0.5);
  curve.Update(0.25, 7.0, 0.0);
  EXPECT_EQ(curve.values(), values);
  // Between two points, repeated updates close the gap without passing it.
  double gap = std::abs(curve.At(0.37) + 3.0);
  for (int i = 0; i < 20; ++i) {
    curve.Update(0.37, -3.0, 0.3);
    EXPECT_GE(curve.At(0.37), -3.0);
    EXPECT_LT(curve.At(0.37) + 3.0, gap);
    gap = curve.At(0.37) + 3.0;
  }
  EXPECT_LT(gap, 0.1);
}

}  // namespace
}  // namespace gateskip::train
