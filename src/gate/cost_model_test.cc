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
  adapter.multiply_output = true;
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
