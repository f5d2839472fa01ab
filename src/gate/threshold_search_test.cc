// SPDX-License-Identifier: Apache-2.0
#include "gate/threshold_search.h"

#include <gtest/gtest.h>

#include <random>

namespace gateskip {
namespace {

TEST(FindGlobalThreshold, RealisesTheNetBudgetWithinOneEntry) {
  const LayerDims dims{.num_layers = 6, .hidden_size = 32, .query_size = 32, .kv_size = 16, .ffn_size = 96};
  AdapterConfig adapter;
  adapter.gated.assign(12, true);
  adapter.gated[1] = false;
  adapter.skip_rank = 2;
  adapter.lora_rank = 2;
  adapter.lora_targets = {"attn_output"};
  const CostModel cost(dims, adapter);
  constexpr size_t kRows = 400;
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  RecordedRows recorded;
  std::vector<float> importance(12 * kRows);
  std::vector<uint8_t> decided(12 * kRows);
  for (size_t b = 0; b < 12; ++b) {
    for (size_t r = 0; r < kRows; ++r) {
      importance[b * kRows + r] = uniform(random);
      decided[b * kRows + r] = b != 1 && r > 0;
    }
  }
  recorded.Append(importance, decided, kRows);
  for (double budget : {0.05, 0.25, 0.6}) {
    const float tau = FindGlobalThreshold(cost, KvRule::kCompute, recorded, budget);
    SkipCounts counts(12);
    for (size_t b = 0; b < 12; ++b) {
      for (size_t r = 0; r < kRows; ++r) {
        const size_t i = b * kRows + r;
        counts.decided[b] += decided[i];
        const bool skip = decided[i] != 0 && importance[i] <= tau;
        (skip ? counts.skipped : counts.run)[b]++;
        if (skip && b % 2 == 0) counts.kv_only[b]++;
      }
    }
    const double one_entry = cost.branch(3).dense / (cost.dense_per_row() * kRows);
    EXPECT_GE(cost.NetSaving(counts), budget - 1e-12);
    EXPECT_LE(cost.NetSaving(counts), budget + one_entry);
  }
}

TEST(FindGlobalThreshold, EverythingSkippedWhenTheBudgetIsOutOfReach) {
  const LayerDims dims{.num_layers = 1, .hidden_size = 8, .query_size = 8, .kv_size = 8, .ffn_size = 8};
  RecordedRows recorded;
  recorded.Append(std::vector<float>{0.1F, 0.9F}, std::vector<uint8_t>{1, 1}, 1);
  EXPECT_FLOAT_EQ(FindGlobalThreshold(CostModel(dims), KvRule::kCompute, recorded, 0.99), 0.9F);
}

}  // namespace
}  // namespace gateskip
