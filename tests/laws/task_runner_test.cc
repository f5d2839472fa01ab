// SPDX-License-Identifier: Apache-2.0
// A generation with something scored after its prompt (SQuAD's "no answer"): both are what they are alone, bit for bit,
// whether they share the prompt's rows or the prompt is cut for the generation only.
#include "eval/task_runner.h"

#include <gtest/gtest.h>

#include <map>

#include "io/testing/temp_directory.h"
#include "support/tiny_model.h"

namespace gateskip::testing {
namespace {

constexpr const char* kBoth = R"(
task = "both"
output_type = "generate_until"
doc_to_text = "text"
doc_to_target = "answer"
generation_kwargs = {until = ["\n"], max_gen_toks = 8}
metric_list = [{metric = "f1"}, {metric = "best_f1"}]
)";
constexpr const char* kGenerated = R"(
task = "generated"
output_type = "generate_until"
doc_to_text = "text"
doc_to_target = "answer"
generation_kwargs = {until = ["\n"], max_gen_toks = 8}
metric_list = [{metric = "f1"}]
)";
constexpr const char* kScored = R"(
task = "scored"
output_type = "loglikelihood"
doc_to_text = "text"
doc_to_target = "{{' unanswerable'}}"
metric_list = [{metric = "acc"}]
)";

class TaskRunnerTest : public ::testing::Test {
 protected:
  TaskRunnerTest() {
    const std::vector<std::byte> bytes = TinyGguf({});
    EngineOptions options;
    options.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    options.threads = 2;
    model_ = LoadModel(options);
    data_ = directory_.Write("docs.jsonl", R"({"text": "in the end there are things on the line", "answer": "box"})"
                                           "\n"
                                           R"({"text": "the box", "answer": "end"})"
                                           "\n");
  }

  std::map<size_t, InstanceResult> Run(const char* spec, size_t max_length) const {
    const auto task = Task::Load(ParseTask(spec, "test"), {.data_path = data_});
    std::map<size_t, InstanceResult> results;
    const std::vector<size_t> all = {0, 1};
    const PlanOf dense = [](size_t) { return DensePlan(); };
    RunInstances(*model_, *task, all, dense, {.use_adapter = false, .max_length = max_length},
                 [&](InstanceResult&& result) {
                   EXPECT_EQ(task->Score(result.instance, result.response).size(), task->spec().metrics.size());
                   const size_t instance = result.instance;
                   results.emplace(instance, std::move(result));
                   return true;
                 });
    return results;
  }

  TempDirectory directory_;
  std::string data_;
  std::unique_ptr<LoadedModel> model_;
};

TEST_F(TaskRunnerTest, AGenerationAndWhatIsScoredAfterItsPromptAreThemselves) {
  size_t shared = 0;
  size_t apart = 0;
  for (const size_t max_length : {size_t{0}, size_t{24}}) {
    const auto both = Run(kBoth, max_length);
    const auto generated = Run(kGenerated, max_length);
    const auto scored = Run(kScored, max_length);
    ASSERT_EQ(both.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(both.at(i).response.text, generated.at(i).response.text);
      EXPECT_EQ(both.at(i).response.log_likelihoods, scored.at(i).response.log_likelihoods);
      EXPECT_EQ(both.at(i).response.is_greedy, scored.at(i).response.is_greedy);
      EXPECT_EQ(both.at(i).decode.rows, generated.at(i).decode.rows);
      const uint64_t alone = generated.at(i).prefill.rows + scored.at(i).prefill.rows;
      both.at(i).prefill.rows < alone ? ++shared : ++apart;
    }
    EXPECT_TRUE(generated.at(0).response.log_likelihoods.empty());
    EXPECT_EQ(scored.at(0).response.log_likelihoods.size(), 1u);
  }
  EXPECT_EQ(shared, 3u);  // all but the long prompt where 24 tokens are all there is
  EXPECT_EQ(apart, 1u);
}

}  // namespace
}  // namespace gateskip::testing
