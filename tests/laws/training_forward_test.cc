// SPDX-License-Identifier: Apache-2.0
// Law L10: the training engine's forward pass is the runtime's, on the same f32 weights: logits and importances within
// f32 rounding of both sides (the tolerance of reference_test.cc, twice), decisions exactly.
#include "train/training_forward.h"

#include <cmath>

#include "laws/variants.h"
#include "model/config.h"

namespace gateskip::testing {
namespace {

constexpr size_t kTokens = 29;

using TrainingForwardTest = VariantTest;

TEST_P(TrainingForwardTest, L10EqualsTheRuntime) {
  const auto ids = TinyTokens(kTokens, 71);
  adapter_.config.always_run_positions = 1;
  ModelRunner runner(file_, &adapter_, true, 2);
  const double layers = ReadConfig(*file_).num_layers;
  const double tolerance = 2 * std::sqrt(2 * layers * 128) * 0x1p-24 * 8 * 8;
  for (size_t budget = 0; budget < adapter_.config.budgets.size(); ++budget) {
    const RunResult native = runner.RunOne(ids, Gates(adapter_.config.budgets[budget]));
    const TrainingForward trained = RunTrainingForward(
        MakeModelSource(file_), adapter_, ids,
        budget == 0 ? std::span<const float>{} : std::span<const float>(adapter_.config.thresholds[budget]));
    size_t skipped = 0;
    for (size_t b = 0; b < native.events.size(); ++b) {
      for (size_t t = 0; t < kTokens; ++t) {
        ASSERT_EQ((native.events[b][t] & kRan) != 0, trained.ran[b][t] != 0) << "branch " << b << " position " << t;
        skipped += trained.ran[b][t] == 0;
        if (budget > 0 && adapter_.config.gated[b]) {
          ASSERT_NEAR(native.importances[b][t], trained.importance[b][t], tolerance);
        }
      }
    }
    EXPECT_EQ(skipped > 0, budget > 0);
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t v = 0; v < native.logits[t].size(); ++v) {
        ASSERT_NEAR(native.logits[t][v], trained.logits[t][v], tolerance) << "position " << t << " token " << v;
      }
    }
  }
}

// A mask that ends the row after some layers, as decision rule `exit` trains it.
TEST_P(TrainingForwardTest, L10EqualsTheRuntimeAtAnExit) {
  const auto ids = TinyTokens(kTokens, 72);
  adapter_.config.always_run_positions = 1;
  ModelRunner runner(file_, &adapter_, true, 2);
  const int layers = ReadConfig(*file_).num_layers;
  const double tolerance = 2 * std::sqrt(2.0 * layers * 128) * 0x1p-24 * 8 * 8;
  for (int exit = 0; exit < layers; ++exit) {
    std::vector<uint8_t> mask(static_cast<size_t>(2 * layers), 0);
    std::fill_n(mask.begin(), 2 * exit, uint8_t{1});
    auto plan = std::make_shared<SkipPlan>();
    plan->kind = SkipPlan::Kind::kMask;
    plan->always_run_positions = 1;
    for (const uint8_t runs : mask) plan->mask.emplace_back(kTokens, runs);
    const RunResult native = runner.RunOne(ids, plan);
    const TrainingForward trained = RunTrainingForward(MakeModelSource(file_), adapter_, ids, {}, mask);
    for (size_t b = 0; b < mask.size(); ++b) {
      for (size_t t = 0; t < kTokens; ++t) {
        ASSERT_EQ(trained.ran[b][t] != 0, mask[b] != 0 || t == 0) << "branch " << b << " position " << t;
        ASSERT_EQ((native.events[b][t] & kRan) != 0, trained.ran[b][t] != 0) << "branch " << b << " position " << t;
      }
    }
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t v = 0; v < native.logits[t].size(); ++v) {
        ASSERT_NEAR(native.logits[t][v], trained.logits[t][v], tolerance) << "exit " << exit << " position " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, TrainingForwardTest, ::testing::ValuesIn(AllVariants()), VariantName);

}  // namespace
}  // namespace gateskip::testing
