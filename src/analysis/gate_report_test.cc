// SPDX-License-Identifier: Apache-2.0
#include "analysis/gate_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "analysis/testing/html_check.h"

namespace gateskip {
namespace {

using testing::Has;
using testing::HtmlProblem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

RowGroup Group(const std::string& name, uint64_t rows, double saving) {
  return {.name = name,
          .rows = rows,
          .importance = {0.75, 0.5},
          .skipped = {0.125, 0.5},
          .saving = saving,
          .own_nll = rows > 1 ? 2.5 : kNaN,
          .next_nll = 3.25};
}

// Three layers; numbers made up for this test.
GateStatistics Made() {
  GateStatistics s;
  s.model = "tiny <b>";
  s.adapter = "an adapter";
  s.requested = 0.25;
  s.nominal = 0.275;
  s.net = 0.2475;
  s.tokens = 20'500;
  s.windows = 40;
  s.window = 512;
  s.always_run_positions = 1;
  s.nll = 3.125;
  s.branches = {{true, 0.5, 0.1, 0.9, 1.0},  {false, 1, 0, 1, 0},          {true, 0.75, 0.1, 0.95, 0.25},
                {true, 0.7, 0.1, 0.9, 0.05}, {true, 0.9, 0.05, 0.99, 0.0}, {true, 0.8, 0.1, 0.9, 0.9501}};
  for (size_t b = 0; b < s.branches.size(); ++b) {
    s.skipped_by_class.push_back({});
    s.skipped_by_class.back().fill(0.34);
    s.skipped_by_class.back()[1] = kNaN;
  }
  for (size_t c = 0; c < kNumTokenClasses; ++c) {
    s.classes.push_back(Group(TokenClassName(static_cast<TokenClass>(c)), c == 1 ? 0 : 2050, 0.3));
  }
  s.positions = {Group("0", 1, -0.0125), Group("1", 40, 0.36)};
  s.skipped_along.assign(4, {0.2, 0.4});
  s.by_own_nll = {-0.25, {{1, 0.8}, {4, 0.7}}};
  s.by_next_nll = {kNaN, {}};
  s.budgets = {0.2, 0.25};
  s.texts = {{"code.txt", 20'500, {0.21, 0.2625}}};
  s.sample = {{"The", 0.0, {true, true, true, true, true, true}},
              {" sea\n", 0.5, {false, true, false, true, false, false}},
              {"", 0.25, {true, true, true, false, true, true}}};
  return s;
}

TEST(GateReportTest, ShowsTheNumbers) {
  const std::string html = RenderGateReport(Made());
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_TRUE(Has(html, "<h1>tiny &lt;b&gt;</h1>"));
  EXPECT_TRUE(Has(html, "<dt>Saving requested</dt><dd>25 %</dd>"));
  EXPECT_TRUE(Has(html, "<dt>Nominal</dt><dd>27.5 %</dd>"));
  EXPECT_TRUE(Has(html, "<dt>Net</dt><dd>24.8 %</dd>"));
  EXPECT_TRUE(Has(html, "<dt>NLL</dt><dd>3.125 <small>nats</small></dd>"));
  EXPECT_TRUE(Has(html, "<dt>Gated branches</dt><dd>5 <small>of 6</small></dd>"));
  EXPECT_TRUE(Has(html, "<dt>Token-wise</dt><dd>2 <small>of 5</small></dd>"));
  EXPECT_TRUE(Has(html, "by 5 to 95 % of tokens: attention 1; MLP 1</li>"));
  EXPECT_TRUE(Has(html, "Nearly always run: attention 2</li>"));
  EXPECT_TRUE(Has(html, "Nearly always skipped: attention 0; MLP 2</li>"));
  EXPECT_TRUE(Has(html, "Without a gate: MLP 0</li>"));
  // The correlation of 0, 1, 2 with 0.5, 0.75, 0.9.
  EXPECT_TRUE(Has(html, "+0.99 for attention."));
  EXPECT_TRUE(Has(html, "<td class=\"text\">1 MLP</td><td class=\"text\">token-wise</td><td>0.700</td>"));
  EXPECT_TRUE(Has(html, "\"name\":\"MLP\",\"color\":\"orange\",\"x\":[0,1,2],\"y\":[null,0.05,0.9501]"));
  EXPECT_TRUE(Has(html, "<td class=\"text\">digits</td><td>10.0 %</td><td>0.750</td><td>0.500</td>"));
  EXPECT_FALSE(Has(html, ">punctuation</td>"));  // there were none
  EXPECT_TRUE(Has(html, "--s:0.00\">−1.2 %</span></td><td>–</td><td>3.250</td>"));
  EXPECT_TRUE(Has(html, "of the token itself, correlation −0.25"));
  EXPECT_TRUE(Has(html, "<td class=\"text\">code.txt</td><td>20.5 k</td><td>21.0</td><td>26.2</td>"));
  EXPECT_TRUE(Has(html, "\"x\":[20,25],\"y\":[1,1.25]"));
  EXPECT_EQ(html, RenderGateReport(Made()));
}

TEST(GateReportTest, ATokenSaysWhatItSkipped) {
  const std::string html = RenderGateReport(Made());
  EXPECT_TRUE(Has(html, "--s:0.00\" title=\"saves 0.0 %; skips none\">The</span>"));
  EXPECT_TRUE(Has(html, "--s:1.00\" title=\"saves 50.0 %; skips attention 0–2; MLP 2\"> sea↵\n</span>"));
  EXPECT_TRUE(Has(html, "--s:0.50\" title=\"saves 25.0 %; skips MLP 1\">▯</span>"));
  EXPECT_TRUE(Has(html, "\"cells\":[[0,100,0],[0,100,0],[0,100,0]]"));  // attention, layers by tokens
}

TEST(GateReportTest, TextOfStrangersStaysText) {
  const std::string evil = "</script></title><img onerror=alert(1)>&\"\x01\r\n";
  GateStatistics s = Made();
  s.model = s.adapter = s.sample[0].text = s.texts[0].path = evil;
  const std::string html = RenderGateReport(s);
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_FALSE(Has(html, "<img"));
  EXPECT_TRUE(Has(html, "&lt;img onerror=alert(1)&gt;&amp;&quot;\uFFFD␍↵"));
}

TEST(GateReportTest, AGatelessKindAndAnEmptySampleLeaveAPage) {
  GateStatistics s = Made();
  for (size_t b = 1; b < s.branches.size(); b += 2) s.branches[b].gated = false;
  for (RowGroup& g : s.classes) g.skipped[1] = g.importance[1] = kNaN;
  s.skipped_along.assign(1, {kNaN, kNaN});
  s.sample.clear();
  s.budgets.clear();
  s.texts.clear();
  const std::string html = RenderGateReport(s);
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_FALSE(Has(html, "nan"));
  EXPECT_FALSE(Has(html, "class=\"tokens\""));
  EXPECT_FALSE(Has(html, "Does a budget hold"));
}

TEST(GateReportTest, TheJsonHoldsTheNumbersAndNoText) {
  const nlohmann::ordered_json json = GateStatisticsJson(Made());
  EXPECT_EQ(json["saving"]["net"], 0.2475);
  EXPECT_EQ(json["branches"].size(), 6U);
  EXPECT_EQ(json["branches"][2]["token_wise"], true);
  EXPECT_EQ(json["branches"][5]["token_wise"], false);
  EXPECT_FALSE(json["branches"][1].contains("skipped"));
  EXPECT_TRUE(json["branches"][0]["skipped_by_class"]["punctuation"].is_null());
  EXPECT_EQ(json["branches"][0]["skipped_by_class"]["digits"], 0.34);
  EXPECT_TRUE(json["by_next_nll"]["correlation"].is_null());
  EXPECT_TRUE(json["depth_correlation"]["mlp"].is_null());
  EXPECT_TRUE(json["positions"][0]["own_nll"].is_null());
  EXPECT_EQ(json["texts"][0]["net"][1], 0.2625);
  EXPECT_EQ(json.dump().find("sea"), std::string::npos);
}

}  // namespace
}  // namespace gateskip
