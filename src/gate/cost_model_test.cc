// SPDX-License-Identifier: Apache-2.0
#include "gate/cost_model.h"

#include <gtest/gtest.h>

namespace gateskip {
namespace {

// SmolLM2-135M: d 576, 9 heads and 3 KV heads of 64, ffn 1536.
LayerDims SmolLm2() {
  return {.num_layers = 30, .hidden_size = 576, .query_size = 576, .kv_size = 192, .ffn_size = 1536};
}

SkipCounts SkipBranch(int branches, size_t skipped) {
  SkipCounts counts(branches);
  for (size_t b = 0; b < counts.run.size(); ++b) (b == skipped ? counts.skipped : counts.run)[b] = 1;
  return counts;
}

TEST(CostModel, CountsTrueSizes) {
  const CostModel cost(SmolLm2());
  EXPECT_EQ(cost.branch(0).dense, 884736);   // 2 * 576 * 576 + 2 * 576 * 192
  EXPECT_EQ(cost.branch(1).dense, 2654208);  // 3 * 576 * 1536
  EXPECT_EQ(cost.branch(0).kv, 221184);
  EXPECT_EQ(cost.branch(1).kv, 0);
  EXPECT_EQ(cost.dense_per_row(), 30.0 * (884736 + 2654208));
}

TEST(CostModel, NetCountsKvOfSkippedRowsAndNominalDoesNot) {
  const CostModel cost(SmolLm2());
  SkipCounts counts = SkipBranch(60, 10);
  EXPECT_DOUBLE_EQ(CostModel::NominalSaving(counts), 1.0 / 60);
  EXPECT_NEAR(cost.NetSaving(counts), 884736 / cost.dense_per_row(), 0x1p-52);  // 1 - executed / dense rounds at 1
  counts.kv_only[10] = 1;
  EXPECT_NEAR(cost.NetSaving(counts), (884736 - 221184) / cost.dense_per_row(), 1e-12);
}

TEST(CostModel, GatesEatTheSaving) {
  AdapterConfig adapter;
  adapter.num_layers = 30;
  adapter.gated.assign(60, true);
  adapter.gate_kind = GateKind::kVector;
  adapter.gate_product = GateProduct::kOutput;
  const CostModel vector(SmolLm2(), adapter);
  SkipCounts all_run(60);
  for (size_t b = 0; b < 60; ++b) all_run.run[b] = all_run.decided[b] = 1;
  // Two 576 x 576 gates per layer are 18.75 % of it, plus the scalar heads.
  EXPECT_NEAR(vector.NetSaving(all_run), -(2.0 * 576 * 576 + 2 * 576) / (884736 + 2654208), 1e-12);
  adapter.gate_kind = GateKind::kScalar;
  const CostModel scalar(SmolLm2(), adapter);
  EXPECT_GT(scalar.NetSaving(all_run), -0.0004);
  EXPECT_LT(scalar.NetSaving(all_run), 0.0);
}

// One gate of each variant, in elements: what is paid when the row is decided, when it runs, and when it runs
// undecided.
TEST(CostModel, EveryGateVariantIsCounted) {
  struct Case {
    GateKind kind;
    GateProduct product;
    double decision, kept_extra, undecided_extra;
  };
  constexpr double kDot = 576;
  constexpr double kRanked = 2 * 576 * 8;
  constexpr double kVector = 576 * 576;
  const Case cases[] = {
      {GateKind::kScalar, GateProduct::kNone, kDot, 0, 0},
      {GateKind::kScalar, GateProduct::kOutput, kDot, 0, kDot},
      {GateKind::kScalar, GateProduct::kInput, kDot, 0, kDot},
      {GateKind::kLowRank, GateProduct::kNone, kRanked, 0, 0},
      {GateKind::kLowRank, GateProduct::kInput, kRanked, 0, kRanked},
      {GateKind::kMlp, GateProduct::kNone, kRanked, 0, 0},
      {GateKind::kMlp, GateProduct::kOutput, kRanked, 0, kRanked},
      {GateKind::kVector, GateProduct::kNone, kDot, 0, 0},
      {GateKind::kVector, GateProduct::kOutput, kDot, kVector, 0},
      {GateKind::kVector, GateProduct::kInput, kDot, kVector, 0},
  };
  for (const Case& c : cases) {
    for (const bool shared : {false, true}) {  // shared matrices are read by every branch
      for (const GateScope scope : {GateScope::kBranch, GateScope::kLayer}) {
        SCOPED_TRACE(::testing::Message() << NameIn(kGateKinds, c.kind) << " " << NameIn(kGateProducts, c.product)
                                          << (shared ? " shared " : " ") << NameIn(kGateScopes, scope));
        AdapterConfig adapter;
        adapter.num_layers = 30;
        adapter.gated.assign(60, true);
        adapter.gate_kind = c.kind;
        adapter.gate_rank = GateHasRank(c.kind) ? 8 : 0;
        adapter.gate_product = c.product;
        adapter.gate_shared = shared;
        adapter.gate_scope = scope;
        adapter.skip_rank = 0;
        const CostModel cost(SmolLm2(), adapter);
        for (const int b : {0, 1, 58, 59}) {
          const BranchCost& branch = cost.branch(b);
          const bool has_gate = b % 2 == 0 || scope == GateScope::kBranch;  // else the attention's decides
          EXPECT_EQ(branch.decision, has_gate ? c.decision : 0) << b;
          EXPECT_EQ(branch.kept_extra, has_gate ? c.kept_extra : 0) << b;
          EXPECT_EQ(branch.undecided_extra, has_gate ? c.undecided_extra : 0) << b;
          EXPECT_EQ(branch.skip_path, 576) << b;
        }
      }
    }
  }
}

TEST(CostModel, DeltasAndSkipPathsCount) {
  AdapterConfig adapter;
  adapter.gated.assign(60, true);
  adapter.skip_rank = 8;
  adapter.lora_rank = 8;
  adapter.lora_targets = {"attn_output", "attn_k"};
  const CostModel cost(SmolLm2(), adapter);
  EXPECT_DOUBLE_EQ(cost.branch(0).kept_extra, 8 * (1152 + 768));
  EXPECT_DOUBLE_EQ(cost.branch(0).kv, 221184 + 8 * 768);
  EXPECT_DOUBLE_EQ(cost.branch(1).kept_extra, 0);
  EXPECT_DOUBLE_EQ(cost.branch(1).skip_path, 576 * 17);
  std::vector<uint8_t> kept(60, 1);
  kept[3] = 0;
  const double lora = 30 * cost.branch(0).kept_extra;
  const double decisions = 60 * 576;
  EXPECT_NEAR(cost.NetSaving(kept, KvRule::kCompute),
              (2654208 - cost.branch(1).skip_path - lora - decisions) / cost.dense_per_row(), 1e-12);
}

TEST(CostModel, TakesCostsMeasuredElsewhere) {
  const CostModel cost({{.dense = 60, .decision = 1}, {.dense = 40, .kept_extra = 2, .skip_path = 3}});
  EXPECT_EQ(cost.dense_per_row(), 100);
  EXPECT_NEAR(cost.NetSaving(std::vector<uint8_t>{1, 0}, KvRule::kDrop), 1 - (60 + 1 + 3) / 100.0, 1e-15);
}

TEST(SkipCounts, AddAndSubtractAreInverse) {
  SkipCounts a = SkipBranch(4, 1);
  const SkipCounts b = SkipBranch(4, 2);
  a.Add(b);
  EXPECT_EQ(a.run[0], 2u);
  a.Subtract(b);
  EXPECT_EQ(a.run[0], 1u);
  EXPECT_EQ(a.skipped[1], 1u);
}

}  // namespace
}  // namespace gateskip
