// SPDX-License-Identifier: Apache-2.0
// The built-in tasks against lm-evaluation-harness: tests/data/eval_metrics.json, which
// tests/golden/make_metric_golden.py writes by running the harness on documents and answers made up for it. Requests
// must be equal string for string, scores and results to within rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "eval/answer_filter.h"
#include "eval/python_random.h"
#include "eval/task.h"
#include "eval/text_match.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using nlohmann::json;

const json& Golden() {
  static const json golden = [] {
    std::ifstream in(std::string(GATESKIP_TEST_DATA) + "/eval_metrics.json");
    return json::parse(in);
  }();
  return golden;
}

// Sums of at most 100 numbers of some size s: each addition rounds by 2^-53 of the sum, so 1e-12 of s holds with room.
void ExpectClose(double found, double expected, const std::string& what) {
  EXPECT_NEAR(found, expected, 1e-12 * std::max(1.0, std::fabs(expected))) << what;
}

EvalResponse ResponseOf(const json& given, OutputType type) {
  EvalResponse response;
  for (const json& one : given) {
    if (one.is_string()) {
      response.text = one.get<std::string>();
    } else if (type == OutputType::kLoglikelihoodRolling) {
      response.log_likelihoods.push_back(one.get<double>());
    } else {
      response.log_likelihoods.push_back(one[0].get<double>());
      response.is_greedy.push_back(one[1].get<bool>());
    }
  }
  return response;
}

void ExpectScores(const std::vector<MetricValue>& values, const json& expected, const std::string& what) {
  size_t known = 0;
  for (const MetricValue& value : values) {
    // The harness has no number of one document for the thresholds.
    if (value.metric.find(':') != std::string::npos || value.metric.starts_with("best_")) continue;
    ++known;
    ASSERT_TRUE(expected.contains(value.metric)) << what << " " << value.metric;
    const json& wanted = expected[value.metric];
    ExpectClose(value.value, wanted.is_array() ? wanted[0].get<double>() : wanted.get<double>(), what + value.metric);
    ExpectClose(value.weight, wanted.is_array() ? wanted[1].get<double>() : 1.0, what + value.metric);
  }
  EXPECT_EQ(known, expected.size()) << what;
}

void ExpectResults(const std::vector<MetricResult>& results, const json& expected, const std::string& what) {
  EXPECT_EQ(results.size(), expected.size()) << what;
  for (const MetricResult& result : results) {
    ASSERT_TRUE(expected.contains(result.metric)) << what << " " << result.metric;
    const json& wanted = expected[result.metric];
    ExpectClose(result.value, wanted[0].get<double>(), what + result.metric);
    ASSERT_EQ(result.standard_error.has_value(), !wanted[1].is_null()) << what << result.metric;
    if (result.standard_error) ExpectClose(*result.standard_error, wanted[1].get<double>(), what + result.metric);
    EXPECT_EQ(result.count, wanted[2].get<int64_t>()) << what << result.metric;
  }
}

void CheckRun(const std::string& name, const std::string& directory, const json& run, const std::string& what) {
  TaskOptions options;
  options.data_path = directory;
  options.num_fewshot = run["num_fewshot"].get<int>();
  options.limit = run["limit"].get<int64_t>();
  options.seed = Golden()["seed"].get<uint64_t>();
  const auto task = Task::Load(BuiltinTask(name), options);
  const OutputType type = task->spec().output_type;
  ASSERT_EQ(task->size(), run["requests"].size()) << what;
  // The harness goes subset by subset.
  std::vector<size_t> order(task->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return task->instance(a).subset < task->instance(b).subset; });
  std::vector<std::vector<MetricValue>> scored;
  for (size_t i = 0; i < task->size(); ++i) {
    const std::string where = what + " document " + std::to_string(i) + " ";
    const std::vector<EvalRequest>& requests = task->instance(order[i]).requests;
    ASSERT_EQ(requests.size(), run["requests"][i].size()) << where;
    for (size_t r = 0; r < requests.size(); ++r) {
      const json& wanted = run["requests"][i][r];
      if (type == OutputType::kLoglikelihoodRolling) {
        EXPECT_EQ(requests[r].continuation, wanted[0]) << where;
        EXPECT_EQ(requests[r].context, "") << where;
      } else {
        EXPECT_EQ(requests[r].context, wanted[0]) << where;
        EXPECT_EQ(requests[r].continuation, wanted.size() > 1 ? wanted[1] : json("")) << where;
      }
    }
    const EvalResponse response = ResponseOf(run["responses"][i], type);
    scored.push_back(task->Score(order[i], response));
    ExpectScores(scored.back(), run["scores"][i], where);
    EXPECT_NO_THROW(task->SampleRecord(order[i], response).dump()) << where;
  }
  ExpectResults(task->Aggregate(scored), run["results"], what);
}

TEST(TaskGolden, RequestsScoresAndResultsAreTheHarness) {
  ASSERT_GE(Golden()["tasks"].size(), 12u);
  for (const json& golden : Golden()["tasks"]) {
    const auto name = golden["task"].get<std::string>();
    for (const json& files : golden["variants"]) {
      const testing::TempDirectory directory;
      std::string what = name;
      for (const auto& [file, content] : files.items()) {
        std::filesystem::create_directories(std::filesystem::path(directory / file).parent_path());
        directory.Write(file, content.get<std::string>());
        what += " " + file;
      }
      for (const json& run : golden["runs"]) {
        CheckRun(name, directory.path(), run, what + " shots " + run["num_fewshot"].dump());
      }
    }
  }
}

TEST(TaskGolden, RegexFilter) {
  for (const json& row : Golden()["regex_filter"]) {
    const auto pattern = CompilePattern(row[0].get<std::string>(), "test", "pattern");
    EXPECT_EQ(FindAnswer(*pattern, row[2].get<std::string>(), row[1].get<int>(), "[invalid]"), row[3]) << row.dump();
  }
}

TEST(TaskGolden, ExactMatch) {
  for (const json& row : Golden()["exact_match"]) {
    ExactMatchOptions options;
    options.ignore_case = row[2].value("ignore_case", false);
    options.ignore_punctuation = row[2].value("ignore_punctuation", false);
    options.ignore_numbers = row[2].value("ignore_numbers", false);
    if (row[2].contains("regexes_to_ignore")) {
      for (const json& pattern : row[2]["regexes_to_ignore"]) {
        options.regexes_to_ignore.push_back(CompilePattern(pattern.get<std::string>(), "test", "pattern"));
      }
    }
    const bool same = ExactMatch(row[0].get<std::string>(), row[1].get<std::string>(), options);
    EXPECT_EQ(same ? 1.0 : 0.0, row[3].get<double>()) << row.dump();
  }
}

TEST(TaskGolden, RandomDrawsArePythons) {
  for (const json& row : Golden()["random"]) {
    PythonRandom random(row["seed"].get<uint64_t>());
    for (const json& uniform : row["uniform"]) EXPECT_EQ(random.Uniform(), uniform.get<double>());
    for (const json& sample : row["samples"]) {
      EXPECT_EQ(json(random.Sample(sample[0].get<size_t>(), sample[1].get<size_t>())), sample[2]) << row["seed"];
    }
    for (const json& choice : row["choices"]) EXPECT_EQ(random.Choice(37), choice.get<size_t>());
    EXPECT_EQ(random.Uniform(), row["after"].get<double>());
  }
}

}  // namespace
}  // namespace gateskip
