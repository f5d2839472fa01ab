// SPDX-License-Identifier: Apache-2.0
// The trainer's log, written by src/train and read by src/analysis, says what the observer was told.
#include "analysis/train_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/training_run.h"

namespace gateskip::testing {
namespace {

// Reads the log at every evaluation, as whoever makes a report then does.
class Reader : public Observer {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  void OnEvaluation(const TrainEvaluation& evaluation) override {
    Observer::OnEvaluation(evaluation);
    const TrainLog log = ReadTrainLogFile(path_);
    ASSERT_EQ(log.evaluations.count(evaluation.step), 1U);
    EXPECT_EQ(log.evaluations.at(evaluation.step).nll, evaluation.nll);
    EXPECT_EQ(log.evaluations.at(evaluation.step).net_saving, evaluation.net_saving);
    EXPECT_EQ(log.evaluations.at(evaluation.step).base_nll, evaluation.base_nll);
    EXPECT_EQ(log.steps.size(), static_cast<size_t>(evaluation.step));
  }

 private:
  std::string path_;
};

TEST_F(TrainingRunTest, TheLogSaysWhatTheObserverWasTold) {
  TrainOptions options = Options("run");
  options.steps = 4;
  options.eval_every = 2;
  options.eval_sequences = 1;
  options.heldout_sources = options.sources;
  const std::string path = (std::filesystem::path(options.run_directory) / "log.jsonl").string();
  Reader observer(path);
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  EXPECT_EQ(observer.evaluations.size(), 3U);
  const TrainLog log = ReadTrainLogFile(path);
  EXPECT_EQ(log.damaged_lines, 0U);
  EXPECT_FALSE(log.model.empty());
  EXPECT_FALSE(log.gated.empty());
  EXPECT_EQ(log.options.at("steps"), 4);
  EXPECT_THAT(log.changed, ::testing::Contains("steps"));
  EXPECT_THAT(log.changed, ::testing::Not(::testing::Contains("beta1")));
  ASSERT_EQ(log.steps.size(), observer.steps.size());
  for (size_t i = 0; i < log.steps.size(); ++i) {
    const TrainProgress& told = observer.steps[i];
    EXPECT_EQ(log.steps[i].step, told.step);
    EXPECT_EQ(log.steps[i].tokens, told.tokens);
    EXPECT_EQ(log.steps[i].loss, static_cast<float>(told.loss));
    EXPECT_EQ(log.steps[i].rate, static_cast<float>(told.learning_rate));
    EXPECT_EQ(log.steps[i].gradient_norm, static_cast<float>(told.gradient_norm));
    EXPECT_EQ(log.steps[i].requested_saving, static_cast<float>(told.requested_saving));
    EXPECT_EQ(log.steps[i].realised_saving, static_cast<float>(told.realised_saving));
    EXPECT_GT(log.steps[i].tokens_per_second, 0);
  }
  EXPECT_GT(log.seconds, 0);
}

}  // namespace
}  // namespace gateskip::testing
