// SPDX-License-Identifier: Apache-2.0
#include "train/exit_layer.h"

#include <gtest/gtest.h>

namespace gateskip::train {
namespace {

// Four layers of attention 4 (1 of it K/V) and MLP 6.
const CostModel kCost(std::vector<BranchCost>{{.dense = 4, .kv = 1},
                                              {.dense = 6},
                                              {.dense = 4, .kv = 1},
                                              {.dense = 6},
                                              {.dense = 4, .kv = 1},
                                              {.dense = 6},
                                              {.dense = 4, .kv = 1},
                                              {.dense = 6}});

TEST(ExitLayersTest, SavesTheLayersAboveWithoutTheirKv) {
  const ExitLayers computed(kCost, KvRule::kCompute);
  const ExitLayers dropped(kCost, KvRule::kDrop);
  for (int layers = 0; layers <= 4; ++layers) {
    EXPECT_DOUBLE_EQ(computed.SavingOf(layers), (4 - layers) * 9 / 40.0);
    EXPECT_DOUBLE_EQ(dropped.SavingOf(layers), (4 - layers) * 10 / 40.0);
  }
  EXPECT_EQ(computed.Mask(3), (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 0, 0}));
}

TEST(ExitLayersTest, MeetsTheBudgetOnAverage) {
  const ExitLayers exits(kCost, KvRule::kCompute);
  constexpr int kDraws = 10'000;
  for (const double budget : {0.0, 0.05, 0.225, 0.3, 0.5, 0.8999}) {
    double mean = 0;
    for (int i = 0; i < kDraws; ++i) {
      const int layers = exits.Draw(budget, (i + 0.5) / kDraws);
      EXPECT_NEAR(exits.SavingOf(layers), budget, 9 / 40.0);
      mean += exits.SavingOf(layers) / kDraws;
    }
    EXPECT_NEAR(mean, budget, 9 / 40.0 / kDraws + 1e-9);  // one draw more or less at the border
  }
}

TEST(ExitLayersTest, TheFixedExitReachesTheBudget) {
  const ExitLayers exits(kCost, KvRule::kCompute);
  EXPECT_EQ(exits.At(0.0), 4);
  EXPECT_EQ(exits.At(0.01), 3);
  EXPECT_EQ(exits.At(0.23), 2);
  EXPECT_EQ(exits.At(0.95), 0) << "K/V of the layers above is computed, so no exit saves so much";
}

}  // namespace
}  // namespace gateskip::train
