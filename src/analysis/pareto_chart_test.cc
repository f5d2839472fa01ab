// SPDX-License-Identifier: Apache-2.0
#include "analysis/pareto_chart.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "analysis/testing/html_check.h"

namespace gateskip {
namespace {

using testing::Has;
using testing::HtmlProblem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(ParetoChartTest, PointsAndBarsLieWhereTheAxesSay) {
  ParetoChart chart;
  chart.title = "Title";
  chart.series.push_back({"arm", 1, false, {{0, 0, kNaN, "first", {}}, {50, 10, 2, "second", {{"net", "50 %"}}}}});
  // x: the data and 3 % of their span on either side; y: 0 to 12, which is round.
  const std::string html = RenderParetoChart(chart);
  EXPECT_EQ(HtmlProblem(html), "");
  const double left = 1000 * 51.5 / 53;
  EXPECT_TRUE(Has(html, fmt::format("M28.3 1000.0L{:.1f} 166.7", left)));
  EXPECT_TRUE(Has(html, fmt::format("class=\"bar c-cat1\" d=\"M{:.1f} 0.0V333.3\"", left)));
  EXPECT_TRUE(Has(html, fmt::format("style=\"left:{:.2f}%;top:16.67%\"", left / 10)));
  EXPECT_TRUE(Has(html, "\"name\":\"second\",\"facts\":[[\"net\",\"50 %\"]]"));
  EXPECT_TRUE(Has(html, ">arm</span>"));
}

TEST(ParetoChartTest, SavingsBelowZeroAreShownLeftOfTheZeroLine) {
  ParetoChart chart;
  chart.from_zero = true;
  chart.series.push_back({"arm", 0, true, {{-10, 1, kNaN, "", {}}, {10, 2, kNaN, "", {}}}});
  const std::string html = RenderParetoChart(chart);
  EXPECT_TRUE(Has(html, "class=\"zero\" d=\"M500.0 0V1000\""));
  EXPECT_TRUE(Has(html, "class=\"mark m0 c-cat0 strong\" data-s=\"0\" style=\"left:2.83%"));
}

TEST(ParetoChartTest, LinesOfReferenceAreNamedAndTheArmThatIsOneIsNot) {
  ParetoChart chart;
  chart.series.push_back({"the same", kReferenceLook, false, {{0, 2, kNaN, "", {}}}});
  chart.series.push_back({"arm", 1, false, {{1, 1, kNaN, "", {}}}});
  chart.lines = {{"original", 2, 0.25, false}, {"chance", 0, kNaN, true}};
  const std::string html = RenderParetoChart(chart);
  EXPECT_TRUE(Has(html, "class=\"band\" d=\"M0 100.0H1000V300.0H0z\""));  // 0 to 2.5
  EXPECT_TRUE(Has(html, "class=\"line dotted c-ink\" d=\"M0 1000.0H1000\""));
  EXPECT_TRUE(Has(html, ">original</span>"));
  EXPECT_FALSE(Has(html, ">the same<"));
}

TEST(ParetoChartTest, HasNoTwoLooksAlike) {
  std::set<std::string> keys;
  for (size_t look = 0; look <= kReferenceLook; ++look) keys.insert(ParetoKey(look));
  EXPECT_EQ(keys.size(), kParetoLooks + 1);
}

TEST(ParetoChartTest, NamesForWhichThereIsNoRoomGoToTheLegend) {
  ParetoChart chart;
  for (size_t i = 0; i < 40; ++i) {
    chart.series.push_back({fmt::format("arm {}", i), i, false, {{0.1 * static_cast<double>(i), 1, kNaN, "", {}}}});
  }
  const std::string html = RenderParetoChart(chart);
  EXPECT_TRUE(Has(html, "<ul class=\"legend\">"));
  EXPECT_FALSE(Has(html, "class=\"end"));
}

TEST(ParetoChartTest, AnyNumberIsDrawnOrLeftOut) {
  for (const bool log : {false, true}) {
    for (const double odd : {kNaN, kInf, -kInf, 0.0, -1.0, 1e300, 1e-300, 5.0}) {
      ParetoChart chart;
      chart.log_y = log;
      chart.series.push_back(
          {"<b>", 1, false, {{odd, 2, odd, "<i>", {}}, {1, odd, 1, "", {}}, {odd, odd, odd, "", {}}}});
      chart.lines.push_back({"</script>", odd, odd, false});
      const std::string html = RenderParetoChart(chart);
      EXPECT_EQ(HtmlProblem(html), "") << odd;
      EXPECT_FALSE(Has(html, "nan")) << odd;
      EXPECT_FALSE(Has(html, "inf")) << odd;
    }
  }
  EXPECT_TRUE(Has(RenderParetoChart({}), "No values."));
}

}  // namespace
}  // namespace gateskip
