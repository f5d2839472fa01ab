// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_results.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "gateskip/error.h"

namespace gateskip {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Point(const std::string& arm, double requested, double value) {
  return {{"arm", arm},
          {"task", "piqa"},
          {"requested", requested},
          {"metrics", {{{"name", "acc"}, {"value", value}, {"standard_error", 0.016}, {"count", 919}}}},
          {"saving", {{"nominal", requested}, {"net", requested - 0.01}}},
          {"tokens_per_second", 2100.0}};
}

json Good() {
  return {{"gateskip_results", 1},
          {"model", "tiny"},
          {"model_sha256", "ab"},
          {"threads", 2},
          {"arms", {{{"name", "gates"}, {"policy", "gates"}}, {{"name", "original"}}}},
          {"tasks", {{{"name", "piqa"}, {"metric", "acc"}, {"higher_is_better", true}, {"chance", 0.5}}}},
          {"results", {Point("gates", 0.25, 0.61), Point("gates", 0, 0.65), Point("original", 0, 0.66)}}};
}

SweepResults Parse(const json& file) { return ParseSweepResults({{"a.json", file.dump()}}); }

void ExpectError(const std::vector<std::pair<std::string, std::string>>& files, ErrorCode code,
                 const std::string& says) {
  try {
    ParseSweepResults(files);
    ADD_FAILURE() << "no error that says " << says;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(says));
    EXPECT_THAT(e.what(), HasSubstr(": expected "));
  }
}

void ExpectBad(const json& file, const std::string& says, ErrorCode code = ErrorCode::kCorruptData) {
  ExpectError({{"a.json", file.dump()}}, code, says);
}

TEST(SweepResultsTest, AreSortedAndFound) {
  const SweepResults r = Parse(Good());
  EXPECT_EQ(r.arms[0].name, "original");
  EXPECT_EQ(r.arms[1].name, "gates");
  EXPECT_EQ(r.Original(0).score.value, 0.66);
  ASSERT_NE(r.GatedDense(0), nullptr);
  EXPECT_EQ(r.GatedDense(0)->score.value, 0.65);
  ASSERT_NE(r.Find(0, 1, 0.25), nullptr);
  EXPECT_EQ(r.Find(0, 1, 0.25)->net, 0.24);
  EXPECT_EQ(r.Find(0, 1, 0.25)->score.error, 0.016);
  EXPECT_TRUE(std::isnan(r.Find(0, 1, 0.25)->bytes_per_token));
  EXPECT_EQ(r.Find(0, 0, 0.25), nullptr);
  EXPECT_THAT(r.RequestedSavings(), ElementsAre(0, 0.25));
}

TEST(SweepResultsTest, TheGatesAreFoundByNameOrElseByPolicy) {
  json file = Good();
  file["arms"].push_back({{"name", "other"}, {"policy", "gates"}});
  EXPECT_EQ(Parse(file).GatesArm(), 1U);
  file["arms"] = {
      {{"name", "rival"}, {"policy", "random"}}, {{"name", "mine"}, {"policy", "gates"}}, {{"name", "original"}}};
  file["results"] = {Point("mine", 0, 0.65), Point("rival", 0, 0.5), Point("original", 0, 0.66)};
  const SweepResults r = Parse(file);
  EXPECT_EQ(r.arms[r.GatesArm()].name, "mine");
  EXPECT_EQ(r.GatedDense(0)->score.value, 0.65);
  file["arms"][1]["policy"] = "calm";
  EXPECT_EQ(Parse(file).GatesArm(), 3U);
  EXPECT_EQ(Parse(file).GatedDense(0), nullptr);
}

TEST(SweepResultsTest, AnUnreachableSavingNeedsNoNumbers) {
  json file = Good();
  file["results"].push_back({{"arm", "gates"}, {"task", "piqa"}, {"requested", 0.9}, {"unreachable", "too few gates"}});
  const SweepResults r = Parse(file);
  EXPECT_EQ(r.points.back().unreachable, "too few gates");
  EXPECT_EQ(r.Find(0, 1, 0.9), nullptr);
}

TEST(SweepResultsTest, FilesOfOneModelBecomeOne) {
  json second = Good();
  second["arms"] = {{{"name", "random"}, {"policy", "random"}}, {{"name", "original"}}};
  second["results"] = {Point("random", 0.25, 0.52), Point("original", 0, 0.66)};
  second["results"][1]["tokens_per_second"] = 1900.0;  // timings differ, scores do not
  const SweepResults r = ParseSweepResults({{"a.json", Good().dump()}, {"b.json", second.dump()}});
  ASSERT_EQ(r.arms.size(), 3U);
  EXPECT_EQ(r.arms[2].name, "random");
  EXPECT_EQ(r.points.size(), 4U);
  EXPECT_EQ(r.Original(0).tokens_per_second, 2100.0);
  EXPECT_EQ(r.Find(0, 2, 0.25)->run, 1U);

  const auto differs = [&](json changed, const std::string& says) {
    ExpectError({{"a.json", Good().dump()}, {"b.json", changed.dump()}}, ErrorCode::kMismatch, says);
  };
  json other = second;
  other["results"][1] = Point("original", 0, 0.67);
  differs(other, "[b.json] piqa, original at 0: expected the scores of a.json");
  other = second;
  other["model_sha256"] = "cd";
  differs(other, "key model");
  other = second;
  other["tasks"][0]["chance"] = 0.25;
  differs(other, "task piqa");
  other = second;
  other["arms"][1]["policy"] = "static";
  differs(other, "arm original");
}

TEST(SweepResultsTest, BadFilesAreNamedErrors) {
  for (const char* key : {"gateskip_results", "model", "arms", "tasks", "results"}) {
    json file = Good();
    file.erase(key);
    ExpectBad(file, fmt::format("key {}", key));
  }
  for (const char* key : {"arm", "task", "requested", "metrics", "saving"}) {
    json file = Good();
    file["results"][0].erase(key);
    ExpectBad(file, fmt::format("[a.json: result 0] key {}", key));
  }
  for (const char* key : {"name", "metric", "higher_is_better"}) {
    json file = Good();
    file["tasks"][0].erase(key);
    ExpectBad(file, fmt::format("[a.json: task 0] key {}", key));
  }
  json file = Good();
  file["results"].push_back(Point("gates", 0.25, 0.61));
  ExpectBad(file, "piqa, gates at 0.25: expected it once");
  file = Good();
  file["results"].erase(2);
  ExpectBad(file, "the arm 'original' at 0");
  file = Good();
  file["results"][0]["metrics"][0]["name"] = "f1";
  ExpectBad(file, "the task's metric 'acc'");
  file = Good();
  file["results"][0]["arm"] = "unheard";
  ExpectBad(file, "'unheard'");
  file = Good();
  file["arms"].push_back({{"name", "gates"}});
  ExpectBad(file, "'gates' twice");
  file = Good();
  file["tasks"] = json::array();
  file["results"] = json::array();
  ExpectBad(file, "at least one task");
  file = Good();
  file["gateskip_results"] = 2;
  ExpectBad(file, "expected version 1, found 2", ErrorCode::kUnsupported);
  for (const auto& [pointer, value] : std::vector<std::pair<std::string, json>>{{"/requested", -0.1},
                                                                                {"/requested", 1.5},
                                                                                {"/requested", "0.25"},
                                                                                {"/saving/net", 1.5},
                                                                                {"/saving", 3},
                                                                                {"/metrics/0/value", 1e300},
                                                                                {"/metrics/0/standard_error", -1},
                                                                                {"/metrics/0", nullptr},
                                                                                {"/metrics", 1},
                                                                                {"/tokens_per_second", -1}}) {
    file = Good();
    file["results"][0][json::json_pointer(pointer)] = value;
    ExpectBad(file, "expected");
  }
  // JSON has no NaN, and a number too large to be one is none.
  for (const char* number : {"NaN", "1e999", "Infinity", "nan"}) {
    std::string text = Good().dump();
    text.replace(text.find("0.61"), 4, number);
    ExpectError({{"a.json", text}}, ErrorCode::kCorruptData, "[a.json");
  }
  for (const char* text : {"", "[]", "3", "{\"gateskip_results\":1", "\xFF"}) {
    ExpectError({{"a.json", text}}, ErrorCode::kCorruptData, "[a.json]");
  }
  ExpectError({}, ErrorCode::kInvalidArgument, "at least one file");
}

TEST(SweepResultsTest, LimitsAreNamed) {
  json file = Good();
  file["results"] = json::array();
  std::string text = file.dump();
  std::string million;
  for (int i = 0; i < 1'000'000; ++i) million += i > 0 ? ",{}" : "{}";
  text.replace(text.find("\"results\":[]"), 12, "\"results\":[" + million + "]");
  ExpectError({{"a.json", text}}, ErrorCode::kLimitExceeded, "key results: expected at most 20000 entries");

  file = Good();
  for (int i = 0; i < 100; ++i) file["results"].push_back(Point("gates", 0.3 + 0.001 * i, 0.5));
  ExpectBad(file, "at most 100 different savings", ErrorCode::kLimitExceeded);
  file = Good();
  for (int i = 0; i < 63; ++i) file["arms"].push_back({{"name", fmt::format("arm {}", i)}});
  ExpectBad(file, "key arms: expected at most 64", ErrorCode::kLimitExceeded);

  // The same of many files.
  std::vector<std::pair<std::string, std::string>> files;
  for (int f = 0; f < 3; ++f) {
    file = Good();
    for (int i = 0; i < 25; ++i) file["arms"].push_back({{"name", fmt::format("arm {} {}", f, i)}});
    files.emplace_back(fmt::format("{}.json", f), file.dump());
  }
  ExpectError(files, ErrorCode::kLimitExceeded, "[2.json] arm: expected at most 64 in all files");
}

}  // namespace
}  // namespace gateskip
