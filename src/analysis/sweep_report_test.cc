// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "analysis/testing/html_check.h"
#include "base/check.h"
#include "io/json.h"

namespace gateskip {
namespace {

using nlohmann::json;
using testing::Has;
using testing::HtmlProblem;

json Point(const std::string& arm, const std::string& task, double requested, double value, double net) {
  return {{"arm", arm},
          {"task", task},
          {"requested", requested},
          {"metrics", {{{"name", "acc"}, {"value", value}, {"standard_error", 0.01}, {"count", 100}}}},
          {"saving", {{"nominal", requested}, {"net", net}}},
          {"bytes_per_token", 1e8 * (1 - net)},
          {"tokens_per_second", 1000.0 / (1 - net)}};
}

// Numbers made up for this test.
json Made() {
  return {{"gateskip_results", 1},
          {"model", "tiny <b>"},
          {"machine", "a machine"},
          {"date", "2026-01-01"},
          {"command", "gateskip eval --sweep"},
          {"threads", 2},
          {"arms",
           {{{"name", "original"}},
            {{"name", "gates"}, {"policy", "gates"}, {"adapter", "ad"}, {"description", "gates"}},
            {{"name", "healed"}, {"policy", "random"}, {"adapter", "ad"}},
            {{"name", "a|b"}, {"policy", "random"}}}},
          {"tasks",
           {{{"name", "quiz"}, {"metric", "acc"}, {"higher_is_better", true}, {"chance", 0.5}, {"instances", 100}},
            {{"name", "text"}, {"metric", "acc"}, {"higher_is_better", false}, {"instances", 100}}}},
          {"results",
           {Point("original", "quiz", 0, 0.9, 0),
            Point("gates", "quiz", 0, 0.8, -0.01),
            Point("gates", "quiz", 0.25, 0.7, 0.25),
            Point("a|b", "quiz", 0.25, 0.6, -0.2),
            Point("original", "text", 0, 10, 0),
            Point("gates", "text", 0.25, 20, 0.24),
            {{"arm", "healed"}, {"task", "quiz"}, {"requested", 0.25}, {"unreachable", "too <far>"}}}}};
}

TEST(SweepResultsTest, RetentionIsAboveGuessingAndAgainstBothBaselines) {
  const SweepResults results = ReadSweepResults(Made(), "test");
  EXPECT_NEAR(*Retention(results.tasks[0], 0.7, 0.9), 0.5, 1e-12);
  EXPECT_NEAR(*Retention(results.tasks[1], 20, 10), 0.5, 1e-12);
  EXPECT_FALSE(Retention(results.tasks[0], 0.7, 0.5));
  ASSERT_NE(results.Original("quiz"), nullptr);
  // Any arm with the adapter is held against the gated model at budget 0, which is run once.
  for (const size_t arm : {1U, 2U}) {
    const SweepPoint* gated = results.GatedAtZero(results.arms[arm], "quiz");
    ASSERT_NE(gated, nullptr);
    EXPECT_EQ(gated->metrics[0].value, 0.8);
  }
  EXPECT_EQ(results.GatedAtZero(results.arms[3], "quiz"), nullptr);
  const std::string page = RenderSweepReport(results);
  EXPECT_TRUE(Has(page, ">50.0 %<")) << "0.7 of 0.9 above 0.5";
  EXPECT_TRUE(Has(page, ">66.7 %<")) << "0.7 of 0.8 above 0.5";
}

TEST(SweepReportTest, ThePageIsWholeTheSameEachTimeAndEscaped) {
  const SweepResults results = ReadSweepResults(Made(), "test");
  const std::string page = RenderSweepReport(results);
  EXPECT_EQ(HtmlProblem(page), "");
  EXPECT_EQ(page, RenderSweepReport(results));
  EXPECT_FALSE(Has(page, "<b>"));
  EXPECT_FALSE(Has(page, "<far>"));
  for (const char* text : {"tiny &lt;b&gt;", "too &lt;far&gt;", "out of reach", "guessing", "-20.0 %", "a machine"}) {
    EXPECT_TRUE(Has(page, text)) << text;
  }
}

TEST(SweepReportTest, MarkdownHasARowPerArmAndAColumnPerBudget) {
  const std::string text = RenderSweepMarkdown(ReadSweepResults(Made(), "test"));
  EXPECT_TRUE(Has(text, "| arm | 0 % | 25 % |"));
  EXPECT_TRUE(Has(text, "| gates | 0.8000 ± 0.0100 @ -1.0 % | 0.7000 ± 0.0100 @ 25.0 % |"));
  EXPECT_TRUE(Has(text, "| healed |  | out of reach |"));
  EXPECT_TRUE(Has(text, "a\\|b"));
}

TEST(SweepResultsTest, MergesRunsOfOneModel) {
  json other = Made();
  other["arms"].push_back({{"name", "late"}, {"policy", "random"}});
  other["results"] = {Point("original", "quiz", 0, 0.9, 0), Point("late", "quiz", 0.25, 0.55, 0.2)};
  const SweepResults first = ReadSweepResults(Made(), "a");
  const SweepResults merged = MergeSweepResults({first, ReadSweepResults(other, "b")});
  EXPECT_EQ(merged.points.size(), first.points.size() + 1);
  EXPECT_EQ(merged.arms.back().name, "late");
  EXPECT_THROW(MergeSweepResults({first, first}), Error);
  other["model"] = "another";
  EXPECT_THROW(MergeSweepResults({first, ReadSweepResults(other, "b")}), Error);
}

TEST(SweepResultsTest, BadFilesAreNamed) {
  const auto message = [](const json& bad) -> std::string {
    try {
      ReadSweepResults(bad, "file");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message(Made()), "accepted");
  for (const char* key : {"gateskip_results", "model", "arms", "tasks", "results"}) {
    json bad = Made();
    bad.erase(key);
    EXPECT_TRUE(Has(message(bad), "[file]")) << key;
    bad = Made();
    bad[key] = json::object();
    EXPECT_TRUE(Has(message(bad), "[file]")) << key;
  }
  json bad = Made();
  bad["gateskip_results"] = 2;
  EXPECT_TRUE(Has(message(bad), "version"));
  bad = Made();
  bad["results"].push_back(bad["results"][0]);
  EXPECT_TRUE(Has(message(bad), "once"));
  bad = Made();
  bad["results"][0]["arm"] = "unknown";
  EXPECT_TRUE(Has(message(bad), "known arm"));
  for (const char* key : {"saving", "metrics", "requested", "arm"}) {
    bad = Made();
    bad["results"][0].erase(key);
    EXPECT_TRUE(Has(message(bad), "[file]")) << key;
  }
  bad = Made();
  bad["results"][0]["saving"]["net"] = "much";
  EXPECT_TRUE(Has(message(bad), "[file]"));
  bad = Made();
  for (size_t i = 0; i <= kMaxSweepPoints; ++i) bad["results"].push_back(nullptr);
  EXPECT_TRUE(Has(message(bad), "at most"));
}

}  // namespace
}  // namespace gateskip
