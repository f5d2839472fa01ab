// SPDX-License-Identifier: Apache-2.0
// The rivals: do they save what they were asked for, measured by running them, and are their measurements what the
// papers say?
#include "eval/policies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "io/testing/temp_directory.h"
#include "sched/scheduler.h"
#include "support/tiny_model.h"

namespace gateskip::testing {
namespace {

class PoliciesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::byte> bytes = TinyGguf({});
    options_.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    options_.threads = 2;
    options_.self_test = false;
    model_ = LoadModel(options_);
    for (uint64_t i = 0; i < 4; ++i) windows_.push_back(TinyTokens(48, 50 + i));
  }

  // Half of this model's branches cost more than that.
  PolicyMaker Maker() const {
    return PolicyMaker(*model_, {.use_adapter = false, .windows = windows_, .essential_rise = 1.5, .note = {}});
  }

  // Net saving and NLL of the windows under a plan, by one engine step a window.
  std::pair<double, double> Measure(const SkipPlanPtr& plan) const {
    Scheduler scheduler(*model_, {});
    SkipCounts counts(model_->transformer->config.num_branches());
    double nll = 0;
    size_t tokens = 0;
    for (const auto& window : windows_) {
      SequenceRequest request;
      request.prompt = window;
      request.score_prompt = true;
      request.prefill = plan;
      request.use_adapter = false;
      scheduler.Add(std::move(request), [&](SequenceResult&& result) {
        counts.Add(result.prefill_counts);
        for (const float p : result.prompt.log_probs) nll -= p;
        tokens += result.prompt.log_probs.size();
      });
    }
    while (scheduler.Step()) {
    }
    return {model_->plain_cost.NetSaving(counts), nll / static_cast<double>(tokens)};
  }

  TempDirectory directory_;
  EngineOptions options_;
  std::unique_ptr<LoadedModel> model_;
  std::vector<std::vector<int32_t>> windows_;
};

TEST_F(PoliciesTest, EveryPolicySavesWhatItWasAskedForOrSaysWhyNot) {
  PolicyMaker maker = Maker();
  for (const PolicyInfo& policy : Policies()) {
    if (policy.needs_gates) continue;
    for (const double budget : {0.2, 0.4}) {
      SCOPED_TRACE(std::string(policy.name) + " " + std::to_string(budget));
      EXPECT_EQ(maker.Plan(policy.name, 0).plan->kind, SkipPlan::Kind::kDense);
      PolicyPlan made;
      try {
        made = maker.Plan(policy.name, budget, 7);
      } catch (const Error& e) {  // random skipping with so much protected cannot
        EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
        EXPECT_TRUE(policy.name == "random") << e.what();
        continue;
      }
      const double net = Measure(made.plan).first;
      if (!made.unreachable.empty()) continue;
      // Sets of branches come as near as half of their largest part: a layer is a quarter of this model. Random: the
      // share of 4 x 48 x 8 throws of some p, four standard deviations.
      const bool fixed = made.plan->kind == SkipPlan::Kind::kStatic;
      const double tolerance = fixed ? 0.125 : policy.name.starts_with("random") ? 4 * std::sqrt(0.25 / 1536) : 0.02;
      EXPECT_NEAR(net, budget, tolerance);
    }
  }
}

TEST_F(PoliciesTest, OnlyRandomPoliciesDifferFromSequenceToSequence) {
  PolicyMaker maker = Maker();
  const auto a = maker.Plan("random-unprotected", 0.3, 1).plan;
  const auto b = maker.Plan("random-unprotected", 0.3, 2).plan;
  EXPECT_NE(a->seed, b->seed);
  EXPECT_EQ(a->skip_probability, b->skip_probability);
  EXPECT_EQ(maker.Plan("shortgpt", 0.3, 1).plan->runs, maker.Plan("shortgpt", 0.3, 2).plan->runs);
  std::set<std::string> sets;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const std::vector<uint8_t> runs = maker.Plan("random-branches", 0.2, seed).plan->runs;
    sets.insert(std::string(runs.begin(), runs.end()));
  }
  EXPECT_GT(sets.size(), 1U);
}

TEST_F(PoliciesTest, LeaveOneOutIsTheRiseOfTheTextsNll) {
  PolicyMaker maker = Maker();
  const std::vector<double>& rises = maker.LeaveOneOut();
  ASSERT_EQ(rises.size(), 8U);
  const double dense = Measure(DensePlan()).second;
  for (size_t b = 0; b < rises.size(); ++b) {
    std::vector<uint8_t> runs(8, 1);
    runs[b] = 0;
    // The same sum in the same order, up to that of the windows.
    EXPECT_NEAR(rises[b], Measure(StaticPlan(runs, 0)).second - dense, 1e-9) << b;
  }
}

TEST_F(PoliciesTest, ShortGptLeavesOutTheLayersThatTurnTheStateLeast) {
  PolicyMaker maker = Maker();
  const std::vector<double>& influence = maker.BlockInfluence();
  ASSERT_EQ(influence.size(), 4U);
  for (const double value : influence) {
    EXPECT_GT(value, 0);
    EXPECT_LT(value, 2);
  }
  const size_t least = static_cast<size_t>(std::ranges::min_element(influence) - influence.begin());
  const std::vector<uint8_t> runs = maker.Plan("shortgpt", 0.25).plan->runs;
  for (size_t b = 0; b < runs.size(); ++b) EXPECT_EQ(runs[b], b / 2 == least ? 0 : 1) << b;
}

TEST_F(PoliciesTest, BadRequestsAreNamed) {
  PolicyMaker maker(*model_, {.use_adapter = false, .windows = {}, .essential_rise = 1.5, .note = {}});
  const auto message = [&](const std::string& policy, double budget) -> std::string {
    try {
      maker.Plan(policy, budget);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("shortgtp", 0.2).find("did you mean 'shortgpt'"), std::string::npos);
  EXPECT_NE(message("shortgpt", 0.2).find("--calibration"), std::string::npos);
  EXPECT_NE(message("deebert", 0.2).find("--calibration"), std::string::npos);
  EXPECT_NE(message("gates", 0.2).find("--adapter"), std::string::npos);
  EXPECT_NE(message("early-exit", 1.5).find("[budget]"), std::string::npos);
  EXPECT_NE(message("early-exit", std::nan("")).find("[budget]"), std::string::npos);
}

}  // namespace
}  // namespace gateskip::testing
