// SPDX-License-Identifier: Apache-2.0
// Early exit: who leaves and when, against the rule spelled out; what is left of a row that has left; laws L4 and L6.
#include <algorithm>
#include <cmath>

#include "laws/variants.h"

namespace gateskip::testing {
namespace {

constexpr size_t kTokens = 29;

struct ExitCase {
  const char* name;
  ExitRule rule;
};

class EarlyExitTest : public ::testing::TestWithParam<ExitCase> {
 protected:
  std::vector<std::byte> bytes_ = TinyGguf({});
  std::shared_ptr<const GgufFile> file_ = OpenTiny(bytes_);
  SkipPlanPtr Plan() const { return ExitPlan(GetParam().rule, 1, 0.25); }
};

// [branches][positions] of a run, as a plan that spells it out.
SkipPlanPtr Replay(const RunResult& run) {
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kMask;
  for (const auto& branch : run.events) {
    std::vector<uint8_t> ran(branch.size());
    std::ranges::transform(branch, ran.begin(), [](uint8_t event) { return event & kRan; });
    plan->mask.push_back(std::move(ran));
  }
  return plan;
}

TEST_P(EarlyExitTest, ARowThatLeavesRunsNothingAboveAndIsElseAsIfMasked) {
  const auto ids = TinyTokens(kTokens, 41);
  ModelRunner runner(file_, nullptr, false, 2);
  const RunResult run = runner.RunOne(ids, Plan());
  size_t exits = 0;
  for (size_t t = 0; t < kTokens; ++t) {
    bool ran_before = true;
    for (size_t b = 0; b < run.events.size(); ++b) {
      const bool ran = (run.events[b][t] & kRan) != 0;
      EXPECT_TRUE(ran_before || !ran) << "branch " << b << " of row " << t << " ran after the row had left";
      if (ran_before && !ran) {
        ++exits;
        EXPECT_EQ(b % 2, 0U) << "left between attention and MLP";
        EXPECT_GE(static_cast<int>(b / 2), GetParam().rule.first_layer);
        EXPECT_EQ((static_cast<int>(b / 2) - GetParam().rule.first_layer) % GetParam().rule.every, 0);
      }
      ran_before = ran;
    }
  }
  EXPECT_GT(exits, 2U) << "the case tests nothing";
  EXPECT_LT(exits, kTokens);  // the first position always runs
  EXPECT_EQ(runner.RunOne(ids, Replay(run)).logits, run.logits);
}

TEST_P(EarlyExitTest, L4L6NeitherCompanyNorChunksNorThreadsChangeASequence) {
  const std::vector<RunRequest> requests = {
      {.ids = TinyTokens(kTokens, 41), .plan = Plan(), .chunks = {5, 1, 1, 9}},
      {.ids = TinyTokens(17, 42), .plan = DensePlan(), .chunks = {17}, .start_step = 1},
      {.ids = TinyTokens(kTokens, 43), .plan = Plan(), .chunks = {1}, .start_step = 2}};
  ModelRunner single(file_, nullptr, false, 1);
  std::vector<RunResult> alone;
  for (const RunRequest& request : requests) alone.push_back(single.RunOne(request.ids, request.plan));
  for (int threads = 1; threads <= 3; ++threads) {
    ModelRunner runner(file_, nullptr, false, threads);
    EXPECT_EQ(runner.Run(requests), alone) << threads << " threads";
  }
}

// The rule on hidden states and logits that this test takes from the run itself, layer by layer, in double precision.
TEST_P(EarlyExitTest, LeavesWhereTheRuleSays) {
  const ExitRule rule = GetParam().rule;
  const auto ids = TinyTokens(kTokens, 44);
  ModelRunner runner(file_, nullptr, false, 2);
  const Transformer& model = runner.model();
  const int layers = model.config.num_layers;
  KvCache kv({static_cast<size_t>(model.config.num_kv_heads), static_cast<size_t>(model.config.head_dim),
              kernels::KvType::kF16},
             layers);
  KvSequence sequence(layers);
  kv.Grow(&sequence, kTokens);
  Step step(model.config, kernels::KvType::kF16, kTokens, kTokens);
  const SkipPlanPtr plan = Plan();
  for (size_t p = 0; p < kTokens; ++p) {
    step.rows.push_back(
        {.token = ids[p], .position = static_cast<int32_t>(p), .sequence = &sequence, .plan = plan.get()});
  }
  std::vector<std::vector<std::vector<float>>> states;  // [layers + 1][rows][d]
  step.on_hidden_state = [&](int, ConstMatrixView x) {
    states.emplace_back();
    for (size_t r = 0; r < x.rows; ++r) states.back().emplace_back(x.row(r), x.row(r) + x.cols);
  };
  model.Forward(step);
  ASSERT_EQ(states.size(), static_cast<size_t>(layers + 1));

  const auto logits_of = [&](size_t row, int layer) {
    Step read(model.config, kernels::KvType::kF16, kTokens, kTokens);
    read.x_buffer.Reserve(kTokens, states[0][0].size());
    read.x = read.x_buffer.View(1);
    std::ranges::copy(states[static_cast<size_t>(layer)][row], read.x.row(0));
    const int32_t only = 0;
    HeadLogits(model, {&only, 1}, read);
    const auto span = read.logits.row_span(0);
    return std::vector<double>(span.begin(), span.end());
  };
  uint64_t head_checks = 0;
  for (size_t r = 0; r < kTokens; ++r) {
    int exit = layers;
    int same = 0;
    size_t best_before = SIZE_MAX;
    for (int layer = rule.first_layer; r > 0 && layer < layers && exit == layers; layer += rule.every) {
      double margin = 0;  // above 0: leaves
      if (rule.signal == ExitSignal::kHiddenState) {
        const auto& a = states[static_cast<size_t>(layer)][r];
        const auto& b = states[static_cast<size_t>(layer - rule.every)][r];
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = 0; i < a.size(); ++i) {
          ab += double{a[i]} * b[i];
          aa += double{a[i]} * a[i];
          bb += double{b[i]} * b[i];
        }
        margin = ab / std::sqrt(aa * bb) - rule.threshold;
      } else {
        ++head_checks;
        std::vector<double> p = logits_of(r, layer);
        const double top = *std::ranges::max_element(p);
        const auto best = static_cast<size_t>(std::ranges::max_element(p) - p.begin());
        double sum = 0;
        for (double& v : p) sum += v = std::exp(v - top);
        double entropy = 0;
        for (double& v : p) {
          v /= sum;
          if (v > 0) entropy -= v * std::log(v);
        }
        same = best == best_before ? same + 1 : 0;
        best_before = best;
        if (rule.signal == ExitSignal::kEntropy) margin = rule.threshold - entropy;
        if (rule.signal == ExitSignal::kPatience) margin = static_cast<double>(same) - rule.threshold + 0.5;
        if (rule.signal == ExitSignal::kConfidence) {
          std::ranges::sort(p, std::greater<>());
          margin = p[0] - p[1] - rule.threshold;
        }
      }
      // f32 against double: none of these cases comes closer to its threshold than that.
      ASSERT_GT(std::fabs(margin), 1e-5) << "row " << r << " is too close to call";
      if (margin > 0) exit = layer;
    }
    for (int layer = 0; layer < layers; ++layer) {
      EXPECT_EQ((step.event(2 * layer, r) & kRan) != 0, layer < exit) << "row " << r << " layer " << layer;
    }
  }
  EXPECT_EQ(step.Counts(0, kTokens).head_checks, head_checks);
}

INSTANTIATE_TEST_SUITE_P(
    Signals, EarlyExitTest,
    ::testing::Values(ExitCase{"HiddenState", {.signal = ExitSignal::kHiddenState, .threshold = 0.93F}},
                      ExitCase{"HiddenStateEveryTwo",
                               {.signal = ExitSignal::kHiddenState, .threshold = 0.5F, .first_layer = 2, .every = 2}},
                      ExitCase{"Confidence", {.signal = ExitSignal::kConfidence, .threshold = 0.05F}},
                      ExitCase{"Entropy", {.signal = ExitSignal::kEntropy, .threshold = 4.0F, .first_layer = 2}},
                      ExitCase{"Patience", {.signal = ExitSignal::kPatience, .threshold = 1.0F}}),
    [](const auto& exit_case) { return std::string(exit_case.param.name); });

}  // namespace
}  // namespace gateskip::testing
