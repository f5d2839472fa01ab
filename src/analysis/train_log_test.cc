// SPDX-License-Identifier: Apache-2.0
#include "analysis/train_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "gateskip/error.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using ::testing::ElementsAre;
using testing::TempDirectory;

TrainLog Read(const std::string& text) {
  std::istringstream in(text);
  return ReadTrainLog(in);
}

std::string StepLine(int64_t step, double loss, double seconds) {
  return fmt::format(R"({{"event":"step","step":{},"loss":{},"tokens":{},"seconds":{}}})", step, loss, 100 * step,
                     seconds) +
         "\n";
}

constexpr const char* kStart =
    R"({"event":"start","model":"tiny","gated":[true,false],"options":{"steps":4,"seed":1},"changed":["steps"]})"
    "\n";

TEST(TrainLogTest, ReadsEveryEvent) {
  const TrainLog log =
      Read(std::string(R"({"event":"data","files":[{"path":"a.txt","rows":9,"used":7,"skipped":2}],"tokens":1234})"
                       "\n") +
           kStart +
           R"({"event":"step","step":1,"loss":0.5,"kl":0.4,"nll":3.0,"rate":0.1,"gradient_norm":2.0,)"
           R"("requested_saving":0.25,"realised_saving":0.2,"tokens_per_second":600.0,"tokens":2048,"seconds":3.5})"
           "\n"
           R"({"event":"branches","step":1,"run_share":[0.75,1],"gate_mean":[0.5,0.9]})"
           "\n"
           R"({"event":"bad_step","step":2,"reason":"non-finite","loss":null})"
           "\n"
           R"({"event":"eval","step":1,"base_nll":3.0,"budgets":[0,0.25],"nll":[3.1,3.4],"net_saving":[-0.01,0.24]})"
           "\n"
           R"({"event":"sample","step":1,"budget":0.25,"prompt":"p","text":"t"})"
           "\n");
  EXPECT_EQ(log.model, "tiny");
  EXPECT_EQ(log.options.at("steps"), 4);
  EXPECT_TRUE(log.says_changed);
  EXPECT_THAT(log.changed, ElementsAre("steps"));
  EXPECT_THAT(log.gated, ElementsAre(true, false));
  ASSERT_EQ(log.steps.size(), 1U);
  EXPECT_EQ(log.steps[0].loss, 0.5F);
  EXPECT_EQ(log.steps[0].rate, 0.1F);
  EXPECT_EQ(log.steps[0].gradient_norm, 2.0F);
  EXPECT_EQ(log.steps[0].requested_saving, 0.25F);
  EXPECT_EQ(log.steps[0].realised_saving, 0.2F);
  EXPECT_EQ(log.steps[0].tokens_per_second, 600.0F);
  EXPECT_EQ(log.steps[0].tokens, 2048);
  EXPECT_EQ(log.seconds, 3.5);
  EXPECT_THAT(log.branches.at(1).run_share, ElementsAre(0.75F, 1.0F));
  EXPECT_THAT(log.branches.at(1).gate_mean, ElementsAre(0.5F, 0.9F));
  EXPECT_EQ(log.bad_steps.at(2).reason, "non-finite");
  EXPECT_TRUE(std::isnan(log.bad_steps.at(2).loss));
  EXPECT_THAT(log.evaluations.at(1).nll, ElementsAre(3.1, 3.4));
  EXPECT_THAT(log.evaluations.at(1).net_saving, ElementsAre(-0.01, 0.24));
  ASSERT_EQ(log.samples.size(), 1U);
  EXPECT_EQ(log.samples[0].text, "t");
  ASSERT_EQ(log.files.size(), 1U);
  EXPECT_EQ(log.files[0].used, 7);
  EXPECT_EQ(log.data_tokens, 1234);
  EXPECT_EQ(log.damaged_lines, 0U);
}

TEST(TrainLogTest, OfAStepWrittenTwiceTheLaterLineCounts) {
  const TrainLog log = Read(kStart + StepLine(1, 1.0, 10) + StepLine(2, 2.0, 20) + StepLine(3, 3.0, 30) +
                            StepLine(2, 2.5, 11) + StepLine(3, 3.5, 21) + StepLine(4, 4.5, 31));
  ASSERT_EQ(log.steps.size(), 4U);
  std::vector<float> losses;
  for (const LoggedStep& s : log.steps) losses.push_back(s.loss);
  EXPECT_THAT(losses, ElementsAre(1.0F, 2.5F, 3.5F, 4.5F));
  EXPECT_THAT(log.resumed_after, ElementsAre(1));
  EXPECT_EQ(log.seconds, 30 + 31);
}

TEST(TrainLogTest, AResumeWithoutRepeatedStepsShowsInTheClock) {
  const TrainLog log = Read(kStart + StepLine(1, 1, 10) + StepLine(2, 2, 20) + StepLine(3, 3, 9));
  EXPECT_THAT(log.resumed_after, ElementsAre(2));
  EXPECT_EQ(log.seconds, 29);
}

TEST(TrainLogTest, AStartBeginsAnewButKeepsTheText) {
  const TrainLog log = Read(kStart + StepLine(1, 1, 10) +
                            R"({"event":"data","files":[],"tokens":5})"
                            "\n"
                            R"({"event":"start","model":"other"})"
                            "\n" +
                            StepLine(1, 7, 1));
  EXPECT_EQ(log.model, "other");
  ASSERT_EQ(log.steps.size(), 1U);
  EXPECT_EQ(log.steps[0].loss, 7.0F);
  EXPECT_EQ(log.seconds, 1);
  EXPECT_TRUE(log.resumed_after.empty());
  EXPECT_FALSE(log.says_changed);
  EXPECT_EQ(log.data_tokens, 5);
}

TEST(TrainLogTest, DamagedLinesCostOnlyThemselves) {
  const std::string deep(100, '[');
  const TrainLog log =
      Read(std::string("not json\n") + kStart + "[1,2]\n" + deep + "\n" + StepLine(1, 1, 1) +
           "{\"event\":\"step\",\"step\":2,\"loss\":\"\xff\"}\n" + "{\"event\":\"step\",\"step\":2,\"text\":\"" +
           std::string(5 << 20, 'x') + "\"}\n" + StepLine(3, 3, 3) + R"({"event":"step","step":4,"lo)");
  EXPECT_EQ(log.damaged_lines, 6U);
  ASSERT_EQ(log.steps.size(), 2U);
  EXPECT_EQ(log.steps[1].step, 3);
}

TEST(TrainLogTest, WrongTypesAndStrangeNumbersAreLikeNothing) {
  const char* const kinds[] = {"start", "step", "eval", "branches", "bad_step", "sample", "data", "novel", ""};
  const char* const keys[] = {"event",     "step",   "model",   "options", "changed",   "gated",    "loss",
                              "tokens",    "rate",   "seconds", "budgets", "nll",       "base_nll", "net_saving",
                              "run_share", "budget", "reason",  "text",    "gate_mean", "files",    "prompt"};
  const char* const values[] = {"null",
                                "true",
                                "\"x\"",
                                "[]",
                                "{}",
                                "[null,\"x\",[1],{}]",
                                "-1",
                                "1e308",
                                "-1e308",
                                "9007199254740993",
                                "0.5",
                                "1e-320",
                                "18446744073709551615",
                                "[1e308]",
                                "[{\"path\":1,\"rows\":-5}]"};
  for (const char* kind : kinds) {
    for (const char* key : keys) {
      for (const char* value : values) {
        const bool kind_itself = std::string_view(key) == "event";
        const std::string line = kind_itself ? fmt::format(R"({{"event":{},"step":1}})", value)
                                 : std::string_view(key) == "step"
                                     ? fmt::format(R"({{"event":"{}","step":{}}})", kind, value)
                                     : fmt::format(R"({{"event":"{}","step":1,"{}":{}}})", kind, key, value);
        EXPECT_EQ(Read(line + "\n" + StepLine(2, 2, 2)).damaged_lines, 0U) << line;
      }
    }
  }
  const TrainLog log = Read(R"({"event":"step","step":1,"loss":1e308,"tokens":-3,"seconds":-1})");
  ASSERT_EQ(log.steps.size(), 1U);
  EXPECT_TRUE(std::isnan(log.steps[0].loss));
  EXPECT_EQ(log.steps[0].tokens, 0);
  EXPECT_EQ(log.seconds, 0);
}

TEST(TrainLogTest, MemoryIsBoundedHoweverLongTheRun) {
  std::string text;
  const auto count = static_cast<int64_t>(kMaxLoggedSteps) * 9 / 4;
  for (int64_t s = 1; s <= count; ++s)
    text += fmt::format("{{\"event\":\"step\",\"step\":{},\"loss\":{}}}\n", s, s % 7);
  const TrainLog log = Read(text);
  EXPECT_LE(log.steps.size(), kMaxLoggedSteps);
  EXPECT_GT(log.steps.size(), kMaxLoggedSteps / 2);
  EXPECT_EQ(log.steps.back().step, count);
  for (size_t i = 1; i < log.steps.size(); ++i) ASSERT_LT(log.steps[i - 1].step, log.steps[i].step);
}

TEST(TrainLogTest, LongTextsAreCutBetweenCharacters) {
  std::string text = "x";
  for (int i = 0; i < 5000; ++i) text += "ä";
  const TrainLog log = Read(fmt::format(R"({{"event":"sample","step":1,"prompt":"p","text":"{}"}})", text));
  ASSERT_EQ(log.samples.size(), 1U);
  EXPECT_EQ(log.samples[0].text, text.substr(0, 4095) + "…");
}

TEST(TrainLogTest, AFileThatIsNoLogIsAnError) {
  const TempDirectory directory;
  const auto code_of = [](const std::string& path) {
    try {
      ReadTrainLogFile(path);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of(directory / "absent"), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(directory.path()), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of(directory.Write("empty", "")), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of(directory.Write("other", "{\"event\":\"novel\"}\n")), ErrorCode::kCorruptData);
  EXPECT_EQ(ReadTrainLogFile(directory.Write("log.jsonl", StepLine(1, 1, 1))).steps.size(), 1U);
}

}  // namespace
}  // namespace gateskip
