// SPDX-License-Identifier: Apache-2.0
// Reports and samples of a run; the bar has its test in terminal_test.cc.
#include "train_console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing/temp_directory.h"

namespace gateskip::cli {
namespace {

using gateskip::testing::ReadBack;
using gateskip::testing::TempDirectory;
using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

constexpr const char* kLog =
    "{\"event\":\"start\",\"model\":\"tiny\"}\n"
    "{\"event\":\"eval\",\"step\":3,\"base_nll\":3.0,\"budgets\":[0],\"nll\":[3.125],\"net_saving\":[-0.01]}\n";

class TrainConsoleTest : public ::testing::Test {
 protected:
  TrainConsoleTest() { options_.run_directory = directory_.path(); }

  TempDirectory directory_;
  TrainOptions options_;
  std::atomic<bool> cancelled_{false};
};

TEST_F(TrainConsoleTest, AnEvaluationAndTheEndWriteTheReport) {
  directory_.Write("log.jsonl", kLog);
  CaptureStderr();
  {
    TrainConsole console(options_, false, cancelled_);
    console.OnMessage("fitting");
    EXPECT_EQ(directory_.Names().count("report.html"), 0U);
    console.OnEvaluation({.step = 3, .base_nll = 3.0, .budgets = {0}, .nll = {3.125}, .net_saving = {-0.01}});
    EXPECT_THAT(ReadBack(directory_ / "report.html"), HasSubstr("<strong>3.1250</strong>"));
    std::filesystem::remove(directory_ / "report.html");
  }
  EXPECT_EQ(directory_.Names().count("report.html"), 1U);
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("report: " + (directory_ / "report.html") + "\n"));
}

TEST_F(TrainConsoleTest, ARunThatNeverBeganTouchesNothing) {
  directory_.Write("log.jsonl", kLog);  // another run's
  { TrainConsole console(options_, false, cancelled_); }
  EXPECT_EQ(directory_.Names(), std::set<std::string>{"log.jsonl"});
}

TEST_F(TrainConsoleTest, AReportThatCannotBeWrittenIsOneWarning) {
  CaptureStderr();
  {
    TrainConsole console(options_, false, cancelled_);
    console.OnEvaluation({});
    console.OnEvaluation({});
  }
  const std::string seen = GetCapturedStderr();
  const size_t first = seen.find("no report: ");
  ASSERT_NE(first, std::string::npos) << seen;
  EXPECT_EQ(seen.find("no report: ", first + 1), std::string::npos) << seen;
}

TEST_F(TrainConsoleTest, SamplesAreIndentedAndHarmless) {
  CaptureStderr();
  {
    TrainConsole console(options_, false, cancelled_);
    console.OnSample({.step = 10, .budget = 0.25, .prompt = "Why?", .text = "One\n\x1b[2Jtwo"});
  }
  EXPECT_EQ(GetCapturedStderr(), "step 10: sample at 25 %\n  Why?\n  One\n  \\x1b[2Jtwo\n");
}

TEST_F(TrainConsoleTest, PlainLinesSayWhatTheBarSays) {
  CaptureStderr();
  {
    TrainConsole console(options_, false, cancelled_);
    for (int step = 19; step <= 20; ++step) {
      console.OnStep({.step = step,
                      .steps = 100,
                      .loss = 0.5,
                      .learning_rate = 0.25,
                      .gradient_norm = 1.5,
                      .requested_saving = 0.25,
                      .realised_saving = 0.24,
                      .tokens_per_second = 512,
                      .tokens = 1024,
                      .bad_steps = 2});
    }
  }
  EXPECT_THAT(GetCapturedStderr(),
              HasSubstr("step 20/100  loss 0.5000  net 24.0 of 25.0 %  2 bad  512 tok/s  grad 1.5  lr 0.25  ETA 0s\n"));
}

}  // namespace
}  // namespace gateskip::cli
