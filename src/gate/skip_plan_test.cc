// SPDX-License-Identifier: Apache-2.0
#include "gate/skip_plan.h"

#include <gtest/gtest.h>

#include "gate/cost_model.h"
#include "gateskip/error.h"

namespace gateskip {
namespace {

AdapterConfig GridAdapter() {
  AdapterConfig adapter;
  adapter.num_layers = 1;
  adapter.gated = {true, false};
  adapter.budgets = {0.0, 0.2, 0.4};
  adapter.thresholds = {{-1.0F, -1.0F}, {0.2F, -1.0F}, {0.6F, -1.0F}};
  adapter.always_run_positions = 1;
  return adapter;
}

TEST(GatesPlan, RunsIffImportanceIsAboveTheThreshold) {
  const auto plan = GatesPlan(GridAdapter(), 0.2);
  EXPECT_TRUE(plan->Runs(0, 5, 0.2001F));
  EXPECT_FALSE(plan->Runs(0, 5, 0.2F));
  EXPECT_TRUE(plan->Runs(1, 5, 0.0F)) << "a branch without a gate always runs";
  EXPECT_TRUE(plan->Runs(0, 0, 0.0F)) << "position 0 always runs";
  EXPECT_FALSE(plan->NeedsImportance(0, 0));
  EXPECT_TRUE(plan->NeedsImportance(0, 1));
  EXPECT_FALSE(plan->NeedsImportance(1, 1));
}

TEST(GatesPlan, InterpolatesBetweenGridPoints) {
  EXPECT_FLOAT_EQ(GatesPlan(GridAdapter(), 0.3)->thresholds[0], 0.4F);
  EXPECT_FLOAT_EQ(GatesPlan(GridAdapter(), 0.1)->thresholds[0], 0.1F) << "always-runs counts as threshold 0";
  EXPECT_FLOAT_EQ(GatesPlan(GridAdapter(), 0.4)->thresholds[0], 0.6F);
  EXPECT_LT(GatesPlan(GridAdapter(), 0.3)->thresholds[1], 0.0F);
}

TEST(GatesPlan, BudgetZeroIsDense) { EXPECT_EQ(GatesPlan(GridAdapter(), 0.0)->kind, SkipPlan::Kind::kDense); }

TEST(GatesPlan, RefusesBudgetsOutOfRange) {
  for (double bad : {-0.01, 0.41, 0.96, 1.0, 1e300, std::numeric_limits<double>::quiet_NaN()}) {
    try {
      GatesPlan(GridAdapter(), bad);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    }
  }
}

TEST(RandomPlan, ReachesTheNetBudgetOnAverageAndKeepsWhatIsProtected) {
  const LayerDims dims{.num_layers = 4, .hidden_size = 64, .query_size = 64, .kv_size = 32, .ffn_size = 128};
  AdapterConfig adapter;  // deltas and skip paths make the same net saving cost more skips
  adapter.gated.assign(8, true);
  adapter.skip_rank = 2;
  adapter.lora_rank = 4;
  adapter.lora_targets = {"attn_k", "ffn_down"};
  const CostModel cost(dims, adapter);
  std::vector<uint8_t> keep(8, 0);
  keep[1] = 1;
  const auto plan = RandomPlan(cost, KvRule::kCompute, GateScope::kBranch, keep, 1, 0.3, 7);
  SkipCounts counts(8);
  constexpr int kPositions = 20000;
  for (int p = 1; p <= kPositions; ++p) {
    for (int b = 0; b < 8; ++b) {
      const bool runs = plan->Runs(b, p, 0);
      (runs ? counts.run : counts.skipped)[static_cast<size_t>(b)]++;
      if (!runs && b % 2 == 0) counts.kv_only[static_cast<size_t>(b)]++;
    }
  }
  EXPECT_EQ(counts.skipped[1], 0u);
  // Standard deviation of the mean of 20000 rows of 7 independent branches is below 0.5 / sqrt(20000) = 0.0035.
  EXPECT_NEAR(cost.NetSaving(counts), 0.3, 4 * 0.0035);
}

TEST(RandomPlan, SkipsWholeLayersWhereALayerIsTheScope) {
  const LayerDims dims{.num_layers = 3, .hidden_size = 64, .query_size = 64, .kv_size = 32, .ffn_size = 128};
  AdapterConfig adapter;
  adapter.num_layers = 3;
  adapter.gated.assign(6, true);
  adapter.gate_kind = GateKind::kMlp;
  adapter.gate_rank = 2;
  adapter.gate_product = GateProduct::kOutput;  // evaluated for every row that runs
  adapter.gate_scope = GateScope::kLayer;
  const CostModel cost(dims, adapter);
  const std::vector<uint8_t> keep = {0, 0, 1, 1, 0, 0};
  const auto plan = RandomPlan(cost, KvRule::kDrop, GateScope::kLayer, keep, 0, 0.3, 7);
  SkipCounts counts(6);
  constexpr int kPositions = 20000;
  for (int p = 0; p < kPositions; ++p) {
    for (int b = 0; b < 6; ++b) {
      const bool runs = plan->Runs(b, p, 0);
      EXPECT_EQ(runs, plan->Runs(b / 2 * 2, p, 0));
      (runs ? counts.run : counts.skipped)[static_cast<size_t>(b)]++;
      counts.decided[static_cast<size_t>(b)] += runs && b % 2 == 0;
    }
  }
  EXPECT_EQ(counts.skipped[2], 0u);
  // Standard deviation of the mean of 20000 rows of 2 independent layers is below 0.5 / sqrt(20000) = 0.0035.
  EXPECT_NEAR(cost.NetSaving(counts), 0.3, 4 * 0.0035);
}

TEST(RandomPlan, DependsOnSeedAndPositionOnly) {
  const CostModel cost(LayerDims{.num_layers = 2, .hidden_size = 8, .query_size = 8, .kv_size = 8, .ffn_size = 8});
  const auto a = RandomPlan(cost, KvRule::kDrop, GateScope::kBranch, {}, 0, 0.5, 1);
  const auto b = RandomPlan(cost, KvRule::kDrop, GateScope::kBranch, {}, 0, 0.5, 1);
  const auto c = RandomPlan(cost, KvRule::kDrop, GateScope::kBranch, {}, 0, 0.5, 2);
  int differences = 0;
  for (int p = 0; p < 200; ++p) {
    EXPECT_EQ(a->Runs(1, p, 0), b->Runs(1, p, 0));
    differences += a->Runs(1, p, 0) != c->Runs(1, p, 0);
  }
  EXPECT_GT(differences, 40);
}

TEST(RandomPlan, RefusesWhatProtectionMakesImpossible) {
  const CostModel cost(LayerDims{.num_layers = 1, .hidden_size = 8, .query_size = 8, .kv_size = 8, .ffn_size = 8});
  EXPECT_THROW(RandomPlan(cost, KvRule::kDrop, GateScope::kBranch, std::vector<uint8_t>{1, 1}, 0, 0.1, 1), Error);
}

TEST(MaskPlan, RunsEverythingBeyondItsEnd) {
  SkipPlan plan;
  plan.kind = SkipPlan::Kind::kMask;
  plan.mask = {{1, 0}, {0}};
  EXPECT_TRUE(plan.Runs(0, 0, 0));
  EXPECT_FALSE(plan.Runs(0, 1, 0));
  EXPECT_TRUE(plan.Runs(0, 2, 0));
  EXPECT_FALSE(plan.Runs(1, 0, 0));
}

}  // namespace
}  // namespace gateskip
