// SPDX-License-Identifier: Apache-2.0
#include "analysis/svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "analysis/html_page.h"
#include "analysis/testing/html_check.h"

namespace gateskip {
namespace {

using testing::Has;
using testing::HtmlProblem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMax = std::numeric_limits<double>::max();

LineChart OneLine(std::vector<double> x, std::vector<double> y) {
  LineChart chart;
  chart.title = "Title";
  chart.x_name = "step";
  chart.y_name = "nats";
  chart.series.push_back({"loss", {std::move(x), std::move(y)}, "blue"});
  return chart;
}

TEST(LineChartTest, PointsLieWhereTheAxesSay) {
  // x from 0 to 10, y from 1 to 3: both axes end at their data, because these are round.
  const std::string html = RenderLineChart(OneLine({0, 5, 10}, {1, 2, 3}));
  EXPECT_TRUE(Has(html, "d=\"M0.0 1000.0L500.0 500.0L1000.0 0.0\""));
  EXPECT_TRUE(Has(html, "<span class=\"y\" style=\"top:50.00%\">2.0</span>"));
  EXPECT_TRUE(Has(html, "<span class=\"x\" style=\"left:40.00%\">4</span>"));
  EXPECT_TRUE(Has(html, "\"x\":[0,5,10],\"y\":[1,2,3]"));
  EXPECT_EQ(HtmlProblem(html), "");
}

TEST(LineChartTest, LogarithmicAxesLeaveOutWhatHasNoLogarithm) {
  LineChart chart = OneLine({0, 1, 2, 3, 4}, {0.1, 0, 1, -5, 10});
  chart.log_y = true;
  const std::string html = RenderLineChart(chart);
  EXPECT_TRUE(Has(html, "d=\"M0.0 1000.0M500.0 500.0M1000.0 0.0\""));
  EXPECT_TRUE(Has(html, ">0.1</span>"));
}

TEST(LineChartTest, NaNIsAGapAndNullUnderThePointer) {
  const std::string html = RenderLineChart(OneLine({0, 1, 2, 3}, {0, 1, kNaN, 1}));
  EXPECT_TRUE(Has(html, "d=\"M0.0 1000.0L333.3 0.0M1000.0 0.0\""));
  EXPECT_TRUE(Has(html, "\"y\":[0,1,null,1]"));
}

TEST(LineChartTest, OutliersAmongDotsDoNotSquashTheRest) {
  std::vector<double> x;
  std::vector<double> y;
  for (int i = 0; i < 1000; ++i) {
    x.push_back(i);
    y.push_back(i == 500 ? 1e6 : 1 + 0.001 * (i % 10));
  }
  LineChart chart = OneLine(x, y);
  chart.series[0].style = ChartStyle::kDots;
  EXPECT_TRUE(Has(RenderLineChart(chart), ">1.010</span>"));
  chart.series[0].style = ChartStyle::kLine;
  EXPECT_TRUE(Has(RenderLineChart(chart), ">1.0M</span>"));
}

TEST(LineChartTest, PercentScalesWhatIsRead) {
  LineChart chart = OneLine({0, 1}, {0, 0.5});
  chart.percent = true;
  EXPECT_TRUE(Has(RenderLineChart(chart), ">50 %</span>"));
}

TEST(LineChartTest, LabelsAtLineEndsKeepTheirDistance) {
  LineChart chart = OneLine({0, 1}, {0, 1});
  chart.series.clear();
  for (int i = 0; i < 6; ++i) {
    chart.series.push_back({"s",
                            {{0, 1}, {0, i % 2 == 0 ? 0.001 * i : 1 - 0.001 * i}},
                            "blue",
                            ChartStyle::kLine,
                            ChartSeries::Name::kAtEnd});
  }
  const std::string html = RenderLineChart(chart);
  std::vector<double> tops;
  const std::string start = "<span class=\"end c-blue\" style=\"top:";
  for (size_t at = html.find(start); at != std::string::npos; at = html.find(start, at + 1)) {
    tops.push_back(std::strtod(html.c_str() + at + start.size(), nullptr));
  }
  ASSERT_EQ(tops.size(), 6U);
  // 15 of 260 pixels are 5.77 %, written to 0.1.
  for (size_t i = 1; i < tops.size(); ++i) EXPECT_GE(tops[i] - tops[i - 1], 5.66);
  EXPECT_GE(tops.front(), 0);
  EXPECT_LE(tops.back(), 103);
}

TEST(LineChartTest, TextOfStrangersStaysText) {
  LineChart chart = OneLine({0, 1}, {0, 1});
  const std::string evil = "</script><b>\"'&\x01";
  chart.title = chart.note = chart.x_name = chart.y_name = chart.series[0].name = evil;
  chart.marks.push_back({0.5, true, evil});
  const std::string html = RenderLineChart(chart);
  EXPECT_FALSE(Has(html, "<b>"));
  EXPECT_EQ(HtmlProblem(html), "");
}

TEST(LineChartTest, NoValuesOfAnySizeBreakIt) {
  const std::vector<double> strange = {kNaN,    kInf, -kInf, kMax,  -kMax, 1e30,        -1e30, 5e-324,
                                       -5e-324, 0.0,  -0.0,  1e-30, 1.0,   1.0 + 1e-15, 1e300, 1e15};
  for (const bool log : {false, true}) {
    for (const ChartStyle style :
         {ChartStyle::kLine, ChartStyle::kDashed, ChartStyle::kDots, ChartStyle::kLineAndDots}) {
      for (const double a : strange) {
        for (const double b : strange) {
          LineChart chart = OneLine({1, 2}, {a, b});
          chart.log_y = log;
          chart.series[0].style = style;
          chart.series[0].name_place = ChartSeries::Name::kAtEnd;
          const std::string html = RenderLineChart(chart);
          ASSERT_EQ(HtmlProblem(html), "") << a << " " << b;
          ASSERT_FALSE(Has(html, "nan")) << a << " " << b;
          ASSERT_FALSE(Has(html, "inf")) << a << " " << b;
          ASSERT_LT(html.size(), 10'000U) << a << " " << b;
        }
      }
    }
  }
  EXPECT_TRUE(Has(RenderLineChart(OneLine({}, {})), "No values yet"));
  EXPECT_TRUE(Has(RenderLineChart(OneLine({3}, {2})), "<svg"));
}

TEST(HeatMapTest, NeighboursOfOneLevelAreOneRectangle) {
  HeatMap map;
  map.title = "Attention";
  map.row_name = "layer";
  map.value_name = "skipped";
  map.x_name = "step";
  map.edges = {0, 10, 20, 40};
  map.cells = {{0.5F, 0.5F, 1.0F}, {0.0F, std::nanf(""), 0.25F}};
  const std::string html = RenderHeatMap(map);
  EXPECT_TRUE(Has(html, "fill-opacity=\"0.50\" d=\"M0.0 0.0H500.0v500.0H0.0z\""));
  EXPECT_TRUE(Has(html, "fill-opacity=\"1.00\" d=\"M500.0 0.0H1000.0v500.0H500.0z\""));
  EXPECT_TRUE(Has(html, "fill-opacity=\"0.25\" d=\"M500.0 500.0H1000.0v500.0H500.0z\""));
  EXPECT_TRUE(Has(html, "\"cells\":[[50,50,100],[0,-1,25]]"));
  EXPECT_EQ(HtmlProblem(html), "");
}

TEST(HeatMapTest, MissingCellsAndStrangeValuesAreBlank) {
  HeatMap map;
  map.edges = {0, 1, 2};
  map.cells = {{}, {2.0F, -1.0F}, {std::numeric_limits<float>::infinity()}};
  EXPECT_TRUE(Has(RenderHeatMap(map), "\"cells\":[[-1,-1],[-1,-1],[-1,-1]]"));
  map.cells.clear();
  EXPECT_TRUE(Has(RenderHeatMap(map), "No values yet"));
  map.cells = {{0.5F}};
  map.edges = {3, 3};
  EXPECT_TRUE(Has(RenderHeatMap(map), "No values yet"));
}

TEST(HtmlPageTest, IsWholeAndWellFormedAndFetchesNothing) {
  const std::string html = HtmlPage("<t>&", "<p>x</p>\n");
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_TRUE(Has(html, "<title>&lt;t&gt;&amp;</title>"));
  for (const char* outside : {"http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "//cdn"}) {
    EXPECT_FALSE(Has(html, outside));
  }
  EXPECT_EQ(HtmlEscape("a<b>&\"'\x01\n"), "a&lt;b&gt;&amp;&quot;&#39;\uFFFD\n");
}

}  // namespace
}  // namespace gateskip
