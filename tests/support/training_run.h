// SPDX-License-Identifier: Apache-2.0
// Whole training runs on the tiny model, for tests: its files on disk, options that finish in a moment, an observer
// that stops or dies on time.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "io/testing/temp_directory.h"
#include "support/tiny_model.h"
#include "train/train.h"

namespace gateskip::testing {

using Hashes = std::map<std::string, std::string>;  // by path

struct Killed {};

// Stops or dies when so many steps are done, and keeps what it is told.
class Observer : public TrainObserver {
 public:
  int cancel_at = -1;
  int kill_at = -1;
  std::vector<TrainProgress> steps;
  std::vector<TrainEvaluation> evaluations;
  std::string messages;

  void OnMessage(const std::string& message) override { messages += message + "\n"; }
  void OnStep(const TrainProgress& progress) override {
    steps.push_back(progress);
    done_ = progress.step;
    if (progress.step == kill_at) throw Killed();
  }
  void OnEvaluation(const TrainEvaluation& evaluation) override { evaluations.push_back(evaluation); }
  bool Cancelled() override { return done_ == cancel_at; }

 private:
  int done_ = 0;
};

class TrainingRunTest : public ::testing::Test {
 protected:
  // Some hundred different lines, of the bytes the toy vocabulary has.
  TrainingRunTest() {
    std::string pairs;
    std::string text;
    for (int i = 0; i < 60; ++i) {
      pairs +=
          fmt::format("{{\"prompt\": \"what is {} and {}\", \"completion\": \"then it is {}\"}}\n", i, i * i, i * 7);
      text += fmt::format("in the end there are {} things on line {}\n", i * 3, i);
    }
    pairs_ = directory_.Write("pairs.jsonl", pairs);
    text_ = directory_.Write("text.txt", text);
    model_ = WriteModel("tiny.gguf", TinyGguf({}));
  }

  std::string WriteModel(const std::string& name, const std::vector<std::byte>& bytes) const {
    return directory_.Write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  TrainOptions Options(const std::string& run) const {
    TrainOptions o;
    o.model_path = model_;
    o.sources = {{pairs_, 1.0}, {text_, 0.5}};
    o.run_directory = directory_ / run;
    o.adapter_directory = directory_ / (run + "-adapter");
    o.threads = 1;
    o.skip_rank = 2;
    o.lora_rank = 2;
    o.fit_sequences = 2;
    o.prior_sequences = 1;
    o.prior_step = 0.25;
    o.essential_rise = 1e9;  // the tiny model's branches all matter
    // Eight steps on random weights are no training: faster gates would only bring decisions so near to their
    // thresholds that the 8-bit path takes others than the f32 path, which is not what these tests are about.
    o.gate_learning_rate = 1e-4;
    o.steps = 8;
    o.sequence_length = 24;
    o.batch_sequences = 2;
    o.accumulation_steps = 2;
    o.dense_every = 3;
    o.warmup_steps = 2;
    o.loss_positions = 0.75;
    o.ce_weight = 0.25;
    o.checkpoint_every = 100;
    return o;
  }

  static Hashes HashesIn(const std::string& path) {
    Hashes hashes;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (!entry.is_regular_file()) continue;
      hashes[std::filesystem::relative(entry.path(), path).string()] = Sha256File(entry.path().string());
    }
    return hashes;
  }
  // Of the last checkpoint and the adapter.
  static Hashes Result(const TrainOptions& options) {
    Hashes hashes =
        HashesIn((std::filesystem::path(options.run_directory) / fmt::format("step-{}", options.steps)).string());
    EXPECT_EQ(hashes.size(), 3U);
    for (const auto& [name, hash] : HashesIn(options.adapter_directory)) hashes["adapter/" + name] = hash;
    EXPECT_EQ(hashes.size(), 5U);
    return hashes;
  }
  static Hashes Straight(const TrainOptions& options) {
    Observer observer;
    EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
    EXPECT_EQ(observer.steps.size(), static_cast<size_t>(options.steps));
    return Result(options);
  }

  TempDirectory directory_;
  std::string pairs_, text_, model_;
};

}  // namespace gateskip::testing
