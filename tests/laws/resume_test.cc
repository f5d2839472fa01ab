// SPDX-License-Identifier: Apache-2.0
// Law L9: a training run that was stopped, killed or damaged and resumed ends in the same bits as one that ran straight
// through; and resuming with anything that changes the result is refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "io/testing/expect_error.h"
#include "io/testing/failing_ops.h"
#include "support/training_run.h"
#include "train/checkpoint.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;

TEST_F(TrainingRunTest, L9StoppedAndResumedEqualsStraight) {
  const Hashes straight = Straight(Options("straight"));
  EXPECT_EQ(Straight(Options("again")), straight) << "the same seed, twice";
  const std::vector<std::vector<int>> plans = {{3}, {0}, {1, 2, 7}};
  for (const auto& stops : plans) {
    TrainOptions options = Options(fmt::format("stopped-{}", stops[0]));
    int done = 0;
    for (const int stop : stops) {
      Observer observer;
      observer.cancel_at = stop;
      EXPECT_EQ(Train(options, observer), TrainOutcome::kCancelled);
      EXPECT_EQ(observer.steps.size(), static_cast<size_t>(stop - done));
      EXPECT_FALSE(fs::exists(options.adapter_directory));
      done = stop;
      options.resume = true;
    }
    Observer observer;
    EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
    ASSERT_EQ(observer.steps.size(), static_cast<size_t>(8 - done));
    EXPECT_EQ(observer.steps[0].step, done + 1);
    EXPECT_NE(observer.messages.find(fmt::format("resumed at step {}", done)), std::string::npos) << observer.messages;
    EXPECT_EQ(Result(options), straight) << "stopped at " << stops[0];
  }
  TrainOptions other_seed = Options("other");
  other_seed.seed = 2;
  EXPECT_NE(Straight(other_seed).at("model.safetensors"), straight.at("model.safetensors"));
}

TEST_F(TrainingRunTest, L9KilledOrDamagedAndResumedEqualsStraight) {
  TrainOptions options = Options("straight");
  options.checkpoint_every = 2;
  options.heldout_sources = {{text_, 1.0, 0.0, 1.0}};  // evaluations change nothing
  options.eval_every = 3;
  options.eval_sequences = 2;
  const Hashes straight = Straight(options);

  // The state knows what was watched; the parameters do not.
  const auto unwatched = [](Hashes hashes) {
    hashes.erase("state.json");
    hashes.erase("manifest.json");
    return hashes;
  };
  TrainOptions plain = Options("plain");
  EXPECT_EQ(unwatched(Straight(plain)), unwatched(straight));

  options.run_directory = directory_ / "killed";
  options.adapter_directory = directory_ / "killed-adapter";
  Observer first;
  first.kill_at = 7;
  EXPECT_THROW(Train(options, first), Killed);
  EXPECT_FALSE(fs::exists(directory_ / "killed/step-2")) << "two are kept";
  EXPECT_TRUE(fs::exists(directory_ / "killed/step-4"));
  fs::resize_file(directory_ / "killed/step-6/model.safetensors", 1000);
  options.resume = true;
  Observer second;
  EXPECT_EQ(Train(options, second), TrainOutcome::kFinished);
  EXPECT_NE(second.messages.find("checkpoint of step 6 left out"), std::string::npos) << second.messages;
  ASSERT_EQ(second.steps.size(), 4U) << "from step 4 on";
  EXPECT_EQ(Result(options), straight);
}

TEST_F(TrainingRunTest, ResumingWithOtherOptionsIsRefusedAndChangesNothing) {
  TrainOptions options = Options("run");
  Observer first;
  first.cancel_at = 1;
  ASSERT_EQ(Train(options, first), TrainOutcome::kCancelled);
  const Hashes before = HashesIn(options.run_directory);
  options.resume = true;
  const auto expect_refused = [&](const char* what, const std::function<void(TrainOptions*)>& change) {
    SCOPED_TRACE(what);
    TrainOptions other = options;
    change(&other);
    Observer observer;
    ExpectError([&] { Train(other, observer); }, ErrorCode::kMismatch, "run] checkpoint of step 1");
    EXPECT_TRUE(observer.steps.empty());
    EXPECT_EQ(HashesIn(options.run_directory), before);
    EXPECT_FALSE(fs::exists(options.adapter_directory));
  };
  expect_refused("seed", [](TrainOptions* o) { o->seed = 7; });
  expect_refused("rate", [](TrainOptions* o) { o->lora_learning_rate *= 1.5; });
  expect_refused("kind", [](TrainOptions* o) { o->gate_kind = GateKind::kVector; });
  expect_refused("rank", [](TrainOptions* o) { o->lora_rank = 3; });
  expect_refused("steps", [](TrainOptions* o) { o->steps = 9; });
  expect_refused("type", [](TrainOptions* o) { o->float32 = true; });
  expect_refused("weight", [](TrainOptions* o) { o->sources[1].weight = 2; });
  expect_refused("part", [](TrainOptions* o) { o->sources[0].end = 0.9; });
  expect_refused("text",
                 [&](TrainOptions* o) { o->sources[1].path = directory_.Write("other.txt", std::string(900, 'x')); });
  expect_refused("model", [&](TrainOptions* o) { o->model_path = WriteModel("other.gguf", TinyGguf({.seed = 5})); });
  // What does not change the result may change.
  options.checkpoint_every = 1;
  options.keep_checkpoints = 5;
  options.eval_every = 0;
  options.max_bad_steps = 3;
  Observer last;
  EXPECT_EQ(Train(options, last), TrainOutcome::kFinished);
  EXPECT_EQ(last.steps.size(), 7U);
}

TEST_F(TrainingRunTest, ResumingNothingStartsAndASecondTrainerIsRefused) {
  TrainOptions options = Options("run");
  options.resume = true;
  options.steps = 1;
  Observer observer;
  EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
  const train::RunLock other(options.run_directory);
  ExpectError([&] { Train(options, observer); }, ErrorCode::kIo, "another trainer");
}

// Lets the disk be full while step `full_from` up to the one before `full_to` runs.
class FullDisk : public Observer {
 public:
  FullDisk(int full_from, int full_to) : full_from_(full_from), full_to_(full_to), scoped_(ops_) {}
  void OnStep(const TrainProgress& progress) override {
    Observer::OnStep(progress);
    ops_.free_bytes = progress.step >= full_from_ && progress.step < full_to_ ? 1 : 0;
  }

 private:
  int full_from_, full_to_;
  FailingOps ops_;
  ScopedFileOps scoped_;
};

TEST_F(TrainingRunTest, AFullDiskEndsTheRunOrIsSurvivedAsAsked) {
  TrainOptions options = Options("straight");
  options.checkpoint_every = 2;
  const Hashes straight = Straight(options);

  options = Options("stops");
  options.checkpoint_every = 2;
  FullDisk first(4, 8);
  ExpectError([&] { Train(options, first); }, ErrorCode::kIo, "disk: expected");
  EXPECT_EQ(first.steps.size(), 4U);
  EXPECT_EQ(train::OpenNewestCheckpoint(options.run_directory, [](const std::string&) { FAIL(); })->step(), 2);

  options.on_save_error = OnSaveError::kGoOn;
  options.resume = true;
  FullDisk second(3, 7);
  EXPECT_EQ(Train(options, second), TrainOutcome::kFinished);
  EXPECT_NE(second.messages.find("checkpoint of step 4 failed (1 so far), training goes on: ["), std::string::npos)
      << second.messages;
  EXPECT_NE(second.messages.find("checkpoint of step 6 failed (2 so far)"), std::string::npos);
  EXPECT_EQ(Result(options), straight);

  // Who asked for a checkpoint by a signal must not be told that there is one.
  options.run_directory = directory_ / "cancelled";
  FullDisk third(5, 8);
  third.cancel_at = 5;
  ExpectError([&] { Train(options, third); }, ErrorCode::kIo, "disk: expected");
}

// Its checkpoints and the new run's would be mixed, and a later --resume could take the wrong one.
TEST_F(TrainingRunTest, ANewRunOverAnOldOneIsRefused) {
  TrainOptions options = Options("run");
  options.steps = 1;
  Observer observer;
  EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
  const Hashes before = HashesIn(options.run_directory);
  ExpectError([&] { Train(options, observer); }, ErrorCode::kInvalidArgument, "pass --resume");
  EXPECT_EQ(HashesIn(options.run_directory), before);
}

}  // namespace
}  // namespace gateskip::testing
