// SPDX-License-Identifier: Apache-2.0
#include "analysis/series.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gateskip {
namespace {

using ::testing::ElementsAre;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

template <typename F>
Curve Make(size_t n, const F& f) {
  Curve curve;
  for (size_t i = 0; i < n; ++i) {
    curve.x.push_back(static_cast<double>(i));
    curve.y.push_back(f(i));
  }
  return curve;
}

TEST(SeriesTest, ThinKeepsBothEndsAndTheOrder) {
  const Curve curve = Make(101, [](size_t i) { return static_cast<double>(2 * i); });
  EXPECT_THAT(Thin(curve, 5).x, ElementsAre(0, 25, 50, 75, 100));
  EXPECT_THAT(Thin(curve, 5).y, ElementsAre(0, 50, 100, 150, 200));
  EXPECT_EQ(Thin(curve, 101).x, curve.x);
  EXPECT_TRUE(Thin(Curve(), 5).x.empty());
}

TEST(SeriesTest, SmoothingLeavesAStraightLineStraight) {
  const Curve line = Make(300, [](size_t i) { return 5.0 - 0.25 * static_cast<double>(i); });
  const Curve smooth = Smooth(line);
  ASSERT_EQ(smooth.x.size(), 300U);
  // Windows are symmetric but for the last 300 / 15 / 2 / 4 = 2 points at either end, where the mean of a lopsided
  // window of 2 + 1 points to one side is half its length off: at most 1 point, 0.25.
  for (size_t i = 0; i < smooth.x.size(); ++i) {
    const bool end = i < 2 || i >= 298;
    EXPECT_NEAR(smooth.y[i], line.y[i], end ? 0.25 : 1e-12) << i;
  }
}

TEST(SeriesTest, ASpikeDoesNotBendTheLineAndNaNIsLeftOut) {
  Curve curve = Make(200, [](size_t) { return 1.0; });
  curve.y[100] = 1e9;
  curve.y[50] = kNaN;
  curve.y[60] = -kInf;
  const Curve smooth = Smooth(curve);
  ASSERT_EQ(smooth.x.size(), 198U);
  // 200 / 15 / 2 = 6 to either side: 13 values, of which one is cut at either end.
  for (const double y : smooth.y) EXPECT_EQ(y, 1.0);
}

TEST(SeriesTest, LongCurvesComeOutShortAndWholeInTime) {
  const Curve smooth = Smooth(Make(100'000, [](size_t i) { return static_cast<double>(i % 2); }));
  EXPECT_EQ(smooth.x.size(), 400U);
  EXPECT_EQ(smooth.x.front(), 0);
  EXPECT_EQ(smooth.x.back(), 99'999);
  EXPECT_TRUE(Smooth(Curve()).x.empty());
  EXPECT_THAT(Smooth(Make(1, [](size_t) { return 3.0; })).y, ElementsAre(3.0));
}

TEST(SeriesTest, QuantilesOfTheFiniteValues) {
  const std::vector<double> values = {4, kNaN, 1, 3, kInf, 2, 5};
  EXPECT_EQ(Quantile(values, 0), 1);
  EXPECT_EQ(Quantile(values, 0.5), 3);
  EXPECT_EQ(Quantile(values, 1), 5);
  EXPECT_TRUE(std::isnan(Quantile({}, 0.5)));
}

}  // namespace
}  // namespace gateskip
