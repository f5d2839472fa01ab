// SPDX-License-Identifier: Apache-2.0
// Our evaluation against lm-evaluation-harness with transformers, request by request, on the real model in f32
// (tests/golden/make_eval_golden.py made the file): the requests as text, log-likelihoods, generations, metrics.
//
// Tolerance: the NLL of a token agrees within 1e-3 (oracle_test.cc derives it), and a continuation has few tokens,
// whose errors may all point one way: 1e-3 for each. Both sides tokenize alike, so tokens are counted by ours.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/answer_filter.h"
#include "eval/harness_encoding.h"
#include "eval/task_runner.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

using Json = nlohmann::json;

constexpr double kTokenTolerance = 1e-3;

constexpr const char* kChoice = R"(
task = "golden_choice"
output_type = "multiple_choice"
doc_to_text = "Question: {{question}}\nAnswer:"
doc_to_choice = "choices"
doc_to_target = "answer"
metric_list = [{metric = "acc"}, {metric = "acc_norm"}]
)";
constexpr const char* kLastWord = R"(
task = "golden_last_word"
output_type = "loglikelihood"
doc_to_text = "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target = "{{' '+text.split(' ')[-1]}}"
metric_list = [{metric = "perplexity"}, {metric = "acc"}]
)";
constexpr const char* kRolling = R"(
task = "golden_rolling"
output_type = "loglikelihood_rolling"
doc_to_target = "{{page}}"
metric_list = [{metric = "word_perplexity"}, {metric = "byte_perplexity"}, {metric = "bits_per_byte"}]
)";
constexpr const char* kGenerate = R"toml(
task = "golden_generate"
output_type = "generate_until"
doc_to_text = "Question: {{question}}\nAnswer:"
doc_to_target = "{{choices[0]}}"
generation_kwargs = {until = ["\n\n", "Question:"], max_gen_toks = 24}
metric_list = [{metric = "exact_match", ignore_case = true, ignore_punctuation = true}]
[[filter_list]]
name = "number"
filter = [{function = "regex", regex_pattern = "(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select = -1}]
)toml";

class EvalGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(EvalGoldenTest, AnswersAsTheHarnessWithTransformersDoes) {
  const char* models = std::getenv("GATESKIP_MODELS");
  ASSERT_NE(models, nullptr) << "GATESKIP_MODELS: expected the folder of the models";
  std::ifstream in(std::string(GATESKIP_TEST_DATA) + "/eval_smollm2.json");
  const Json golden = Json::parse(in);
  const TempDirectory directory;
  std::string lines;
  for (const Json& document : golden["documents"]) lines += document.dump() + "\n";
  TaskOptions options;
  options.data_path = directory.Write("docs.jsonl", lines);
  const std::unique_ptr<Task> task = Task::Load(ParseTask(GetParam(), "test"), options);
  const Json& expected = golden["tasks"][task->spec().name];
  const Json& answers = expected["answers"];
  ASSERT_EQ(task->size(), answers.size());
  ASSERT_GE(task->size(), 100U);

  EngineOptions engine;
  engine.model_path = std::string(models) + "/" + golden["model"].get<std::string>();
  engine.compute = ComputeType::kF32;
  const auto model = LoadModel(engine);
  const auto max_length = golden["max_length"].get<size_t>();
  std::vector<size_t> all;
  for (size_t i = 0; i < task->size(); ++i) {
    all.push_back(i);
    const std::vector<EvalRequest>& requests = task->instance(i).requests;
    ASSERT_EQ(requests.size(), answers[i]["requests"].size());
    for (size_t r = 0; r < requests.size(); ++r) {
      const Json& texts = answers[i]["requests"][r];
      const bool rolling = task->spec().output_type == OutputType::kLoglikelihoodRolling;
      EXPECT_EQ(rolling ? requests[r].continuation : requests[r].context, texts[0].get<std::string>());
      if (texts.size() > 1) {
        EXPECT_EQ(requests[r].continuation, texts[1].get<std::string>());
      }
    }
  }
  double worst = 0;
  std::vector<std::vector<MetricValue>> scored(task->size());
  const PlanOf dense = [](size_t) { return DensePlan(); };
  RunInstances(*model, *task, all, dense, {.use_adapter = false, .max_length = max_length},
               [&](InstanceResult&& result) {
                 const Json& answer = answers[result.instance];
                 scored[result.instance] = task->Score(result.instance, result.response);
                 if (answer.contains("text")) {
                   EXPECT_EQ(result.response.text, answer["text"].get<std::string>()) << result.instance;
                   EXPECT_EQ(AnswerFilter(task->spec().filters[0], "test").Apply(result.response.text),
                             answer["filtered"].get<std::string>());
                   return true;
                 }
                 for (size_t r = 0; r < result.response.log_likelihoods.size(); ++r) {
                   const EvalRequest& request = task->instance(result.instance).requests[r];
                   const auto tokens =
                       EncodePair(*model->tokenizer, request.context, request.continuation, max_length).continuation;
                   const double want = answer["log_likelihoods"][r].get<double>();
                   const double error = std::fabs(result.response.log_likelihoods[r] - want);
                   worst = std::max(worst, error / static_cast<double>(tokens.size()));
                   EXPECT_LE(error, kTokenTolerance * static_cast<double>(tokens.size()))
                       << "document " << result.instance << " request " << r;
                   if (task->spec().output_type != OutputType::kLoglikelihoodRolling) {
                     EXPECT_EQ(result.response.is_greedy[r] != 0, answer["is_greedy"][r].get<bool>());
                   }
                 }
                 return true;
               });
  for (const MetricResult& metric : task->Aggregate(scored)) {
    const std::string name = metric.metric.substr(0, metric.metric.find(','));
    ASSERT_TRUE(expected["metrics"].contains(name)) << name;
    const double want = expected["metrics"][name].get<double>();
    // Accuracies are the same counts; perplexities follow their mean NLL's error.
    EXPECT_NEAR(metric.value, want, metric.higher_is_better ? 1e-12 : kTokenTolerance * want) << name;
  }
  std::cout << task->spec().name << ": worst difference per token " << worst << " nats\n";
}

INSTANTIATE_TEST_SUITE_P(OutputTypes, EvalGoldenTest, ::testing::Values(kChoice, kLastWord, kRolling, kGenerate));

}  // namespace
}  // namespace gateskip::testing
