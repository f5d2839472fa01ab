// SPDX-License-Identifier: Apache-2.0
#include "analysis/train_report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "analysis/testing/html_check.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using testing::Has;
using testing::HtmlProblem;
using testing::ReadBack;
using testing::TempDirectory;

TrainLog Read(const std::string& text) {
  std::istringstream in(text);
  return ReadTrainLog(in);
}

std::string StepLine(int step) {
  const bool dense = step % 6 == 0;
  return fmt::format(R"({{"event":"step","step":{},"loss":{},"rate":{},"gradient_norm":{},"requested_saving":{},)"
                     R"("realised_saving":{},"tokens_per_second":640.0,"tokens":{},"seconds":{}}})",
                     step, dense ? 0.02 : 1.0 / step, 1.0 / step, 0.5, dense ? 0 : 0.25, dense ? -0.01 : 0.24,
                     1024 * step, 2 * step) +
         "\n";
}

// Twenty steps of a model with two layers, an evaluation at either end.
std::string ShortLog() {
  std::string log =
      R"({"event":"data","files":[{"path":"self.jsonl","rows":512,"used":500,"skipped":12}],"tokens":2500000})"
      "\n"
      R"({"event":"start","model":"tiny","gated":[true,false,true,true],)"
      R"("options":{"steps":20,"clip_norm":1.0,"lora_targets":["attn_output","ffn_down"]},"changed":["steps"]})"
      "\n"
      R"({"event":"eval","step":0,"base_nll":3.0,"budgets":[0,0.25],"nll":[3.0,4.0],"net_saving":[-0.01,0.26]})"
      "\n";
  for (int step = 1; step <= 20; ++step) {
    if (step == 7) log += "{\"event\":\"bad_step\",\"step\":7,\"reason\":\"loss spike\",\"loss\":9.125}\n";
    log += StepLine(step);
    if (step % 10 == 0) {
      log += fmt::format("{{\"event\":\"branches\",\"step\":{},\"run_share\":[0.6,1,0.25,{}],", step, 0.05 * step) +
             "\"gate_mean\":[0.6,1,0.3,0.9]}\n";
    }
  }
  return log +
         R"({"event":"eval","step":20,"base_nll":3.0,"budgets":[0,0.25],"nll":[2.97,3.36],"net_saving":[-0.01,0.245]})"
         "\n"
         R"({"event":"sample","step":20,"budget":0.25,"prompt":"Why?","text":"Because."})"
         "\n";
}

TEST(TrainReportTest, ShowsTheNumbersOfTheLog) {
  const std::string html = RenderTrainReport(Read(ShortLog()), "run-a");
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_TRUE(Has(html, "<h1>tiny</h1>"));
  EXPECT_TRUE(Has(html, "Run run-a, 3 of 4 branches are gated"));
  EXPECT_TRUE(Has(html, "<dt>Steps</dt><dd>20 <small>of 20</small></dd>"));
  EXPECT_TRUE(Has(html, "<dt>Tokens</dt><dd>20.5 k</dd>"));
  EXPECT_TRUE(Has(html, "<dt>Time</dt><dd>40 s</dd>"));
  EXPECT_TRUE(Has(html, "<dt>Throughput</dt><dd>640 <small>tokens/s</small></dd>"));
  EXPECT_TRUE(Has(html, "<dt>Bad steps</dt><dd>1</dd>"));
  EXPECT_FALSE(Has(html, "<dt>Resumed"));
  // 3.36 is 0.36 or 12 % above 3.0; exp(3.36) = 28.789.
  EXPECT_TRUE(Has(html,
                  "<td><strong>25 %</strong></td><td>24.5 %</td><td><strong>3.3600</strong></td>"
                  "<td>+0.3600</td><td>+12.0</td><td>28.79</td><td>4.0000</td>"));
  EXPECT_TRUE(Has(html, "<td>−1.0 %</td><td><strong>2.9700</strong></td><td>−0.0300</td><td>−1.0</td>"));
  EXPECT_TRUE(Has(html, "skipped: loss spike, loss 9.125"));
  EXPECT_TRUE(Has(html, "Never gated: layer 0 MLP."));
  EXPECT_TRUE(Has(html, "\"cells\":[[40,40],[75,75]]"));  // attention: 1 - run_share
  EXPECT_TRUE(Has(html, "\"cells\":[[0,0],[50,0]]"));     // MLP
  EXPECT_TRUE(Has(html, "\"name\":\"MLP, step 20\",\"color\":\"orange\",\"x\":[0,1],\"y\":[null,0.9]"));
  EXPECT_TRUE(Has(html, "<td class=\"text\"><code>steps</code></td><td class=\"text\">20</td>"));
  EXPECT_TRUE(Has(html, "attn_output, ffn_down"));
  EXPECT_TRUE(Has(html, "Training text, 2.50 M tokens"));
  EXPECT_TRUE(Has(html, "<td class=\"text\">self.jsonl</td><td>512</td><td>500</td><td>12</td>"));
  EXPECT_TRUE(Has(html, "Step 20, budget 25 %"));
  EXPECT_TRUE(Has(html, "Because."));
  EXPECT_FALSE(Has(html, "damaged"));
}

TEST(TrainReportTest, AResumedRunLooksLikeOneThatDidNotStop) {
  const std::string whole = ShortLog();
  // Killed in the line of step 16, resumed from a checkpoint at step 12.
  const size_t cut = whole.find(StepLine(16)) + 30;
  const size_t from = whole.find(StepLine(13));
  const TrainLog log = Read(whole.substr(0, cut) + "\n" + whole.substr(from));
  const TrainLog straight = Read(whole);
  ASSERT_EQ(log.steps.size(), straight.steps.size());
  for (size_t i = 0; i < log.steps.size(); ++i) {
    EXPECT_EQ(log.steps[i].step, straight.steps[i].step);
    EXPECT_EQ(log.steps[i].loss, straight.steps[i].loss);
  }
  const std::string html = RenderTrainReport(log, "r");
  EXPECT_TRUE(Has(html, "resumed after step 12"));
  EXPECT_TRUE(Has(html, "1 damaged lines"));
  EXPECT_TRUE(Has(html, "<dt>Resumed</dt><dd>1×</dd>"));
}

TEST(TrainReportTest, TextOfStrangersStaysText) {
  const std::string evil = R"(</script></title><img onerror=alert(1)>&\")";
  const std::string log = fmt::format(
      R"({{"event":"data","files":[{{"path":"{0}"}}]}}
{{"event":"start","model":"{0}","options":{{"{0}":"{0}","list":["{0}"]}},"changed":["{0}","list"]}}
{{"event":"step","step":1,"loss":1}}
{{"event":"bad_step","step":1,"reason":"{0}"}}
{{"event":"sample","step":1,"budget":0,"prompt":"{0}","text":"{0}"}}
)",
      evil);
  const std::string html = RenderTrainReport(Read(log), evil);
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_FALSE(Has(html, "<img"));
  EXPECT_TRUE(Has(html, "&lt;img onerror=alert(1)&gt;"));
}

TEST(TrainReportTest, WhatIsNotInTheLogIsNotInThePage) {
  for (const std::string& log :
       {std::string(), std::string("{\"event\":\"start\"}\n"), StepLine(1),
        std::string(R"({"event":"step","step":1,"loss":null})"), std::string(R"({"event":"branches","step":3})"),
        std::string(R"({"event":"branches","step":0,"run_share":[0.5],"gate_mean":[]})"),
        std::string(R"({"event":"eval","step":0,"base_nll":null,"budgets":[],"nll":[]})"),
        std::string(R"({"event":"eval","step":5,"base_nll":0,"budgets":[0.1,0.1],"nll":[null,900]})")}) {
    const std::string html = RenderTrainReport(Read(log), "run");
    EXPECT_EQ(HtmlProblem(html), "") << log;
    EXPECT_TRUE(Has(html, "<h1>run</h1>"));
    EXPECT_EQ(html.find("Samples"), std::string::npos);
  }
}

TEST(TrainReportTest, LongRunsGiveSmallPages) {
  std::string text = "{\"event\":\"start\"}\n";
  for (int step = 1; step <= 20'000; ++step) {
    text += StepLine(step);
    if (step % 5 != 0) continue;
    text += fmt::format("{{\"event\":\"branches\",\"step\":{},\"run_share\":[", step);
    for (int b = 0; b < 60; ++b) text += fmt::format("{}{:.3f}", b > 0 ? "," : "", (step * 7 + b * 13) % 100 * 0.01);
    text += "]}\n";
  }
  const TrainLog log = Read(text);
  const std::string html = RenderTrainReport(log, "run");
  EXPECT_EQ(HtmlProblem(html), "");
  EXPECT_LT(html.size(), size_t{1} << 20);
}

TEST(TrainReportTest, TheFileIsReplacedAndNamedAfterTheRun) {
  const TempDirectory directory;
  std::filesystem::create_directory(directory / "run-b");
  std::ofstream(directory / "run-b/log.jsonl") << StepLine(1);
  const std::string page = directory.Write("page.html", "old");
  WriteTrainReport(directory / "run-b/", page);
  EXPECT_TRUE(Has(ReadBack(page), "<h1>run-b</h1>"));
}

}  // namespace
}  // namespace gateskip
