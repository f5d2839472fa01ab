// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "analysis/testing/html_check.h"

namespace gateskip {
namespace {

using testing::Has;
using testing::HtmlProblem;

std::string Point(const std::string& arm, const std::string& task, const std::string& metric, double requested,
                  double net, double value) {
  return fmt::format(R"({{"arm":"{}","task":"{}","requested":{},"metrics":[{{"name":"{}","value":{},)"
                     R"("standard_error":{},"count":9}},{{"name":"other","value":0.125}}],"saving":{{"nominal":{},)"
                     R"("net":{}}},"bytes_per_token":{},"tokens_per_second":{}}})",
                     arm, task, requested, metric, value, value / 50, requested, net, 9e7 * (1 - net),
                     1500 / (1 - net));
}

std::string File(const std::string& points, const std::string& gates = "gates") {
  return R"({"gateskip_results":1,"model":"tiny","machine":"a machine","date":"2026-11-25","threads":2,)"
         R"("arms":[{"name":"original"},{"name":")" +
         gates +
         R"(","policy":"gates","description":"what it is"}],"tasks":[)"
         R"({"name":"piqa","metric":"acc","higher_is_better":true,"chance":0.5,"instances":919},)"
         R"({"name":"wiki","metric":"word_perplexity","higher_is_better":false}],"results":[)" +
         points + "]}";
}

std::string Points() {
  return Point("original", "piqa", "acc", 0, 0, 0.7) + "," + Point("gates", "piqa", "acc", 0, -0.012, 0.69) + "," +
         Point("gates", "piqa", "acc", 0.25, 0.247, 0.65) + "," +
         R"({"arm":"gates","task":"piqa","requested":0.5,"unreachable":"too few <gates>"},)" +
         Point("original", "wiki", "word_perplexity", 0, 0, 20) + "," +
         Point("gates", "wiki", "word_perplexity", 0.25, 0.247, 25).replace(0, 1, R"({"note":"only <nearly>",)");
}

SweepResults Results() { return ParseSweepResults({{"a.json", File(Points())}}); }

TEST(SweepPageTest, ShowsTheNumbersOfTheFile) {
  const std::string html = RenderSweepPage(Results());
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_TRUE(Has(html, "<h1>tiny</h1>"));
  EXPECT_TRUE(Has(html, "<dt>Points</dt><dd>5 <small>1 not reached</small></dd>"));
  EXPECT_TRUE(Has(html, "acc, higher is better, 0-shot, 919 items, chance 50.0 %"));
  EXPECT_TRUE(Has(html, "65.0<small> ± 1.3</small><br/><small>24.7 % net</small>"));
  EXPECT_TRUE(Has(html, "−1.2 % net"));
  EXPECT_TRUE(Has(html, "gates at 50 % was not reached: too few &lt;gates&gt;"));
  EXPECT_TRUE(Has(html, "<li>gates at 25 %: only &lt;nearly&gt;</li>"));
  EXPECT_TRUE(Has(html, ">original 70.0</span>"));
  EXPECT_TRUE(Has(html, ">chance 50.0</span>"));
  // 0.15 / 0.20 of the original, 0.15 / 0.19 of the gated model; 0.013 / 0.2 and / 0.19 are the errors.
  EXPECT_TRUE(Has(html, "<td>75.0 ± 6.5 %</td><td>78.9 ± 6.8 %</td>"));
  EXPECT_TRUE(Has(html, "<td>80.0 ± 1.6 %</td><td>–</td>"));  // 20 / 25; no gated model at 0 there
  EXPECT_TRUE(Has(html, "word_perplexity, lower is better, logarithmic"));
  EXPECT_TRUE(Has(html, "Measured once, in this run and on this machine"));
  EXPECT_TRUE(Has(html, "the mean of piqa. wiki is not among them: a ratio"));
  EXPECT_TRUE(Has(html, "<td class=\"text\">what it is</td>"));
  EXPECT_TRUE(Has(html, "Other metrics"));
  EXPECT_FALSE(Has(html, "MFLOP per token (less"));  // nothing was said of them
  EXPECT_EQ(html, RenderSweepPage(Results()));
}

TEST(SweepPageTest, TextOfStrangersStaysText) {
  const std::string evil = "</script><img onerror=alert(1)>&\\\"|`";
  std::string text = File(Points());
  for (const char* word : {"tiny", "a machine", "what it is", "wiki", "word_perplexity", "original", "other"}) {
    if (std::string_view(word) == "original") continue;  // an arm must have this name
    for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += evil.size()) {
      text.replace(at, std::string_view(word).size(), evil);
    }
  }
  const SweepResults results = ParseSweepResults({{"a.json", text}});
  const std::string html = RenderSweepPage(results);
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_FALSE(Has(html, "<img"));
  EXPECT_TRUE(Has(html, "&lt;img onerror=alert(1)&gt;"));
  EXPECT_FALSE(Has(RenderSweepMarkdown(results), "<img"));
}

TEST(SweepPageTest, TheOriginalAloneIsAPage) {
  const std::string only =
      Point("original", "piqa", "acc", 0, 0, 0.4) + "," + Point("original", "wiki", "word_perplexity", 0, 0, 20);
  const SweepResults results = ParseSweepResults({{"a.json", File(only)}});
  const std::string html = RenderSweepPage(results);
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_FALSE(Has(html, "Mean over tasks"));  // below chance: nothing counts
  EXPECT_TRUE(Has(RenderSweepMarkdown(results), "| original | 40.0 ± 0.8 @ 0.0 % |"));
}

TEST(SweepMarkdownTest, IsTheTableOfThePaper) {
  EXPECT_EQ(RenderSweepMarkdown(Results()),
            "## tiny\n"
            "\n"
            "A column is a requested saving; a cell is score ± standard error @ net saving.\n"
            "\n"
            "### piqa (acc, higher is better, 0-shot, 919 items, chance 50.0 %; in percent)\n"
            "\n"
            "| arm      |                 0 % |                25 % |        50 % |\n"
            "| -------- | ------------------: | ------------------: | ----------: |\n"
            "| original |  70.0 ± 1.4 @ 0.0 % |                     |             |\n"
            "| gates    | 69.0 ± 1.4 @ −1.2 % | 65.0 ± 1.3 @ 24.7 % | not reached |\n"
            "\n"
            "### wiki (word\\_perplexity, lower is better, 0-shot)\n"
            "\n"
            "| arm      |                  0 % |                  25 % | 50 % |\n"
            "| -------- | -------------------: | --------------------: | ---: |\n"
            "| original | 20.00 ± 0.40 @ 0.0 % |                       |      |\n"
            "| gates    |                      | 25.00 ± 0.50 @ 24.7 % |      |\n");
}

TEST(SweepPageTest, ThePageOfTheSampleFileHoldsIt) {
  const SweepResults results = ReadSweepResults({GATESKIP_TEST_DATA "/sweep_made_up.json"});
  const std::string html = RenderSweepPage(results);
  EXPECT_EQ(HtmlProblem(html), "");
  for (const SweepArm& arm : results.arms) EXPECT_TRUE(Has(html, arm.name));
}

}  // namespace
}  // namespace gateskip
