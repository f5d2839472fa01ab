// SPDX-License-Identifier: Apache-2.0
#include "analysis/chart_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gateskip {
namespace {

using ::testing::ElementsAre;

TEST(TicksTest, AreRoundAndInside) {
  EXPECT_EQ(TickSpacing(1.0, 5), 0.2);
  EXPECT_EQ(TickSpacing(1.1, 5), 0.5);
  EXPECT_EQ(TickSpacing(5000, 5), 1000);
  EXPECT_THAT(LinearTicks(-0.1, 1.05, 0.5), ElementsAre(0, 0.5, 1));
  EXPECT_FALSE(std::signbit(LinearTicks(-0.1, 1, 0.5)[0]));
  EXPECT_THAT(LogTicks(0.01, 100), ElementsAre(0.01, 0.1, 1, 10, 100));
  EXPECT_THAT(LogTicks(0.2, 5), ElementsAre(0.2, 0.5, 1, 2, 5));
}

TEST(TicksTest, TextHasTheDecimalsTheSpacingNeeds) {
  EXPECT_EQ(TickText(0.25, 0.05), "0.25");
  EXPECT_EQ(TickText(3, 1), "3");
  EXPECT_EQ(TickText(3, 0.5), "3.0");
  EXPECT_EQ(TickText(1500, 500), "1500");
  EXPECT_EQ(TickText(20'000, 5000), "20k");
  EXPECT_EQ(TickText(22'500, 500), "22.5k");
  EXPECT_EQ(TickText(1'500'000, 500'000), "1.5M");
  EXPECT_EQ(TickText(0, 0.001), "0.000");
}

TEST(AxisTest, EndsAtRoundNumbers) {
  const Axis linear = RoundAxis({-0.013, 0.52}, /*log=*/false, 5);
  EXPECT_NEAR(linear.low, -0.2, 1e-12);
  EXPECT_NEAR(linear.high, 0.6, 1e-12);
  const Axis log = RoundAxis({13, 4100}, /*log=*/true, 5);
  EXPECT_NEAR(log.low, 10, 1e-9);
  EXPECT_NEAR(log.high, 5000, 1e-9);
  EXPECT_NEAR(log.At(100), std::log10(10.0) / std::log10(500.0), 1e-12);
}

TEST(SpreadLabelsTest, MovesApartAndStaysAboveTheLimit) {
  std::vector<double> tops = {10, 12, 50, 100, 101};
  SpreadLabels(&tops, 15, 110);
  EXPECT_THAT(tops, ElementsAre(10, 25, 50, 95, 110));
}

}  // namespace
}  // namespace gateskip
