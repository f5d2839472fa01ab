// SPDX-License-Identifier: Apache-2.0
// Requests of every kind, together in small steps, against the Engine that runs one at a time: law L4 for what a caller
// sees, and the pages all come back.
#include "sched/scheduler.h"

#include <gtest/gtest.h>

#include "io/testing/temp_directory.h"
#include "runtime/loaded_model.h"
#include "support/tiny_model.h"

namespace gateskip::testing {
namespace {

constexpr const char* kStop = "e";

class SchedulerTest : public ::testing::TestWithParam<SchedulerOptions> {
 protected:
  void SetUp() override {
    const std::vector<std::byte> bytes = TinyGguf({});
    options_.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    const auto file = OpenTiny(bytes);
    adapter_ = TinyAdapter(*file, {.kv_rule = KvRule::kCopy, .skip_rank = 4, .lora_rank = 4});
    options_.adapter_path = directory_.path() + "/adapter";
    WriteAdapter(adapter_, options_.adapter_path, false);
    options_.threads = 2;
    options_.self_test = false;
  }

  SkipPlanPtr Plan(double budget) const { return GatesPlan(adapter_.config, budget); }

  TempDirectory directory_;
  EngineOptions options_;
  Adapter adapter_;
};

TEST_P(SchedulerTest, EveryoneGetsWhatTheyGetAlone) {
  const auto engine = Engine::Load(options_);
  const auto model = LoadModel(options_);
  Scheduler scheduler(*model, GetParam());
  const std::vector<double> budgets = {0, 0.2, 0.4};
  size_t done = 0;
  for (uint64_t i = 0; i < 18; ++i) {
    const double budget = budgets[i % 3];
    SequenceRequest request;
    request.prompt = TinyTokens(1 + i * 7 % 90, i);
    request.prefill = request.decode = Plan(budget);
    request.use_adapter = i % 7 != 6;
    const BudgetOptions options = {.prefill = budget, .decode = budget, .use_adapter = request.use_adapter};
    if (!request.use_adapter) request.prefill = request.decode = DensePlan();
    const BudgetOptions plain = {.use_adapter = false};
    const BudgetOptions& used = request.use_adapter ? options : plain;
    if (i % 3 == 0 || i % 5 == 0) {
      for (uint64_t c = 0; c < 1 + i % 4; ++c)
        request.continuations.push_back(TinyTokens(1 + (i + c) % 5, 100 * i + c));
      request.score_prompt = i % 2 == 0;
    } else {
      request.max_tokens = 12;
      if (i % 2 == 0) request.stop = {kStop};
      request.sampling.temperature = i % 4 == 0 ? 0.8F : 0.0F;
      request.sampling.seed = i;
    }
    const SequenceRequest asked = request;
    scheduler.Add(std::move(request), [&, asked, used, i](SequenceResult&& result) {
      ++done;
      const size_t n = asked.prompt.size();
      if (asked.score_prompt && n > 1) {
        const ScoreResult alone = engine->Score(asked.prompt, used);
        EXPECT_EQ(result.prompt.log_probs, alone.log_probs) << i;
        EXPECT_EQ(result.prompt.is_greedy, alone.is_greedy) << i;
      }
      uint64_t rows = n;
      for (size_t c = 0; c < asked.continuations.size(); ++c) {
        std::vector<int32_t> whole = asked.prompt;
        whole.insert(whole.end(), asked.continuations[c].begin(), asked.continuations[c].end());
        const ScoreResult alone = engine->Score(whole, used);
        const std::vector<float> expected(alone.log_probs.begin() + static_cast<ptrdiff_t>(n) - 1,
                                          alone.log_probs.end());
        EXPECT_EQ(result.continuations[c].log_probs, expected) << i << " continuation " << c;
        EXPECT_EQ(result.continuations[c].is_greedy.back(), alone.is_greedy.back());
        rows += asked.continuations[c].size() - 1;
      }
      EXPECT_EQ(result.prefill_counts.run[0] + result.prefill_counts.skipped[0], rows) << i;
      if (asked.max_tokens == 0) return;
      GenerateOptions generate;
      generate.max_tokens = asked.max_tokens;
      generate.stop = asked.stop;
      generate.sampling = asked.sampling;
      generate.budget = used;
      const auto fresh = Engine::Load(options_);
      const GenerateResult alone = fresh->Generate(asked.prompt, generate);
      ASSERT_EQ(result.choices.size(), 1U);
      const ChoiceResult& choice = result.choices[0];
      EXPECT_EQ(choice.token_ids, alone.token_ids) << i;
      EXPECT_EQ(choice.text, alone.text) << i;
      EXPECT_EQ(choice.finish_reason, alone.finish_reason) << i;
      EXPECT_EQ(result.finish_reason, alone.finish_reason) << i;
      const uint64_t decoded = choice.decode_counts.run[0] + choice.decode_counts.skipped[0];
      EXPECT_EQ(decoded, alone.decode_saving.rows) << i;
    });
  }
  int steps = 0;
  while (scheduler.Step()) ASSERT_LT(++steps, 10000);
  EXPECT_EQ(done, 18U);
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.waiting + stats.running, 0U);
  EXPECT_EQ(stats.pages_in_use, stats.cached_pages);
  EXPECT_EQ(stats.cached_pages, stats.idle_cached_pages);
}

TEST_P(SchedulerTest, RefusesWhatCannotRun) {
  const auto model = LoadModel(options_);
  Scheduler scheduler(*model, GetParam());
  const auto refuses = [&](const std::function<void(SequenceRequest&)>& spoil, ErrorCode code) {
    SequenceRequest request;
    request.prompt = {1};
    request.max_tokens = 1;
    spoil(request);
    try {
      scheduler.Add(std::move(request), [](SequenceResult&&) { FAIL() << "ran"; });
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
    }
  };
  using enum ErrorCode;
  refuses([](SequenceRequest& r) { r.prompt.clear(); }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.prompt = {1, -1}; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.continuations = {{1}, {}}; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.max_tokens = -1; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.max_tokens = 1 << 30; }, kLimitExceeded);
  refuses([](SequenceRequest& r) { r.num_choices = 0; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.num_choices = 129; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.top_log_probs = 21; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.sampling.temperature = -1.0F; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.sampling.logit_bias = {{1 << 20, 1.0F}}; }, kInvalidArgument);
  refuses([](SequenceRequest& r) { r.stop = {""}; }, kInvalidArgument);
  EXPECT_FALSE(scheduler.Step());
}

INSTANTIATE_TEST_SUITE_P(Sizes, SchedulerTest,
                         ::testing::Values(SchedulerOptions{},
                                           SchedulerOptions{.max_rows = 5, .max_sequences = 3, .max_positions = 150},
                                           SchedulerOptions{.max_rows = 64, .max_sequences = 5, .max_positions = 1}));

}  // namespace
}  // namespace gateskip::testing
