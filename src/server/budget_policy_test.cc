// SPDX-License-Identifier: Apache-2.0
#include "server/budget_policy.h"

#include <gtest/gtest.h>

namespace gateskip::server {
namespace {

ServeOptions Options() {
  ServeOptions options;
  options.max_running = 16;
  options.budget_prefill = 0.1;
  options.budget_decode = 0.2;
  return options;
}

TEST(BudgetPolicyTest, WithoutARangeTheDefaultsWhateverWaits) {
  const ServeOptions options = Options();
  const Budgets budgets = BudgetPolicy(options).Choose({}, 1000);
  EXPECT_EQ(budgets.prefill, 0.1);
  EXPECT_EQ(budgets.decode, 0.2);
  EXPECT_FALSE(budgets.adapted);
}

TEST(BudgetPolicyTest, TheQueueRaisesTheBudgetFromTheLowEndToTheHighOne) {
  ServeOptions options = Options();
  options.adaptive = {.low = 0.05, .high = 0.25};
  const BudgetPolicy policy(options);
  EXPECT_DOUBLE_EQ(policy.Choose({}, 0).decode, 0.05);
  EXPECT_DOUBLE_EQ(policy.Choose({}, 8).decode, 0.15);
  EXPECT_DOUBLE_EQ(policy.Choose({}, 16).decode, 0.25);
  EXPECT_DOUBLE_EQ(policy.Choose({}, 1000).decode, 0.25);
  double before = 0;
  for (size_t waiting = 0; waiting < 32; ++waiting) {
    const Budgets budgets = policy.Choose({}, waiting);
    EXPECT_GE(budgets.decode, before);
    EXPECT_EQ(budgets.prefill, budgets.decode);
    EXPECT_TRUE(budgets.adapted);
    before = budgets.decode;
  }
}

TEST(BudgetPolicyTest, ARequestThatSetsItsOwnIsLeftAlone) {
  ServeOptions options = Options();
  options.adaptive = {.low = 0.05, .high = 0.25};
  GenerationFields fields;
  fields.budget_decode = 0.0;
  const Budgets budgets = BudgetPolicy(options).Choose(fields, 1000);
  EXPECT_EQ(budgets.decode, 0.0);
  EXPECT_EQ(budgets.prefill, 0.1);
  EXPECT_FALSE(budgets.adapted);
}

}  // namespace
}  // namespace gateskip::server
