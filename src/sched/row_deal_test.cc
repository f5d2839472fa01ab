// SPDX-License-Identifier: Apache-2.0
#include "sched/row_deal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gateskip {
namespace {

using ::testing::ElementsAre;

TEST(RowDealTest, FillsTheStepKeyByKeyAndInOrderWithinOne) {
  const std::vector<PromptLane> lanes = {{"a", 0, 100}, {"a", 0, 100}, {"b", 0, 70}, {"c", 0, 5}};
  // Turns of 64: a 64, b 64, c 5, a 36, b 6, a's second 64, and what is left.
  EXPECT_THAT(RowDeal().Deal(lanes, {.max_rows = 1000}), ElementsAre(100, 100, 70, 5));
  EXPECT_THAT(RowDeal().Deal(lanes, {.max_rows = 133}), ElementsAre(64, 0, 64, 5));
  EXPECT_THAT(RowDeal().Deal(lanes, {.max_rows = 185}), ElementsAre(100, 10, 70, 5));
  EXPECT_THAT(RowDeal().Deal(lanes, {.max_rows = 0}), ElementsAre(0, 0, 0, 0));
  EXPECT_TRUE(RowDeal().Deal({}, {.max_rows = 9}).empty());
}

TEST(RowDealTest, SmallStepsGoRoundTheKeys) {
  RowDeal deal;
  std::vector<PromptLane> lanes = {{"a", 0, 100}, {"a", 0, 100}, {"b", 0, 100}};
  const RowDealLimits limits = {.max_rows = 3};
  EXPECT_THAT(deal.Deal(lanes, limits), ElementsAre(3, 0, 0));
  EXPECT_THAT(deal.Deal(lanes, limits), ElementsAre(0, 0, 3));
  lanes[0].remaining = 0;
  EXPECT_THAT(deal.Deal(lanes, limits), ElementsAre(0, 3, 0));
}

TEST(RowDealTest, RowsFurtherInCountForMore) {
  // At position 1024 a row costs two, at 3072 four.
  const RowDealLimits limits = {.max_rows = 100, .max_cost = 8 * kRowCostUnit};
  EXPECT_THAT(RowDeal().Deal(std::vector<PromptLane>{{"", 0, 50}}, limits), ElementsAre(7));  // 8 rows: 8 + 28/1024
  EXPECT_THAT(RowDeal().Deal(std::vector<PromptLane>{{"", 1024, 50}}, limits), ElementsAre(3));
  EXPECT_THAT(RowDeal().Deal(std::vector<PromptLane>{{"", 100000, 50}}, limits), ElementsAre(1));  // one always fits
}

}  // namespace
}  // namespace gateskip
