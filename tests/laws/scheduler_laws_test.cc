// SPDX-License-Identifier: Apache-2.0
// Laws L4 and L7 for what a caller of the scheduler sees, bit for bit: whoever else runs, whenever it came, however its
// prompt was cut into steps, whatever the prefix cache holds.
#include <algorithm>
#include <tuple>

#include "support/scheduler_runner.h"

namespace gateskip::testing {
namespace {

struct LawCase {
  const char* name;
  TinyArch arch;
  TinyAdapterOptions adapter;
  KvCacheFormat kv_cache = KvCacheFormat::kF16;
};

void PrintTo(const LawCase& law, std::ostream* out) { *out << law.name; }

class SchedulerLawsTest : public ::testing::TestWithParam<LawCase> {
 protected:
  SchedulerModel tiny_{GetParam().arch, GetParam().adapter, GetParam().kv_cache};

  // Requests of every kind; budgets, samplings, lengths up to four pages.
  SequenceRequest MakeRequest(size_t i) const {
    const double budgets[] = {0, 0.2, 0.4};
    SequenceRequest request = tiny_.Generation(1 + i * 53 % 230, i % 11, i % 5 == 4 ? 0 : 9, budgets[i % 3]);
    request.decode = tiny_.Plan(budgets[(i + i / 3) % 3]);
    request.use_adapter = i % 9 != 8;
    request.sampling.temperature = i % 3 == 0 ? 0.0F : 25.0F;  // the tiny model is very sure of itself
    request.sampling.top_p = i % 2 == 0 ? 1.0F : 0.99F;
    request.sampling.seed = i;
    request.sampling.top_k = i % 3 == 0 ? 0 : 20;
    if (i % 4 == 1) request.sampling.frequency_penalty = 1.5F;
    if (i % 4 == 2) request.sampling.logit_bias = {{10, 3.0F}, {11, -100.0F}};
    if (i % 6 == 3) request.num_choices = 3;
    if (i % 3 == 1) request.stop = {"e", "th"};
    request.score_prompt = i % 7 == 0;
    request.top_log_probs = i % 4 == 0 ? 5 : 0;
    request.ignore_eos = i % 2 == 0;
    request.fairness_key = std::string(i % 4, 'k');
    if (i % 5 >= 3) request.continuations = {TinyTokens(1 + i % 4, i), TinyTokens(70, i + 1), TinyTokens(3, i + 2)};
    return request;
  }
};

constexpr size_t kRequests = 33;

TEST_P(SchedulerLawsTest, L4AloneIsAmongOthers) {
  std::vector<Outcome> alone;
  for (size_t i = 0; i < kRequests; ++i) alone.push_back(tiny_.Alone(MakeRequest(i)));
  for (const SchedulerOptions& options :
       {SchedulerOptions{}, SchedulerOptions{.max_rows = 512, .max_sequences = 200, .max_prompt_rows = 100},
        SchedulerOptions{.max_rows = 6, .max_sequences = 9, .max_positions = 2500, .max_prompt_rows = 2},
        SchedulerOptions{.max_rows = 64, .max_sequences = 40, .max_positions = 2000, .prefix_cache = true}}) {
    for (const size_t spread : {1UL, 3UL, 29UL}) {
      SCOPED_TRACE(::testing::Message() << "max_rows " << options.max_rows << ", arrivals over " << spread << " steps");
      std::vector<Arrival> arrivals;
      for (size_t i = 0; i < kRequests; ++i) arrivals.push_back({MakeRequest(i), i * 7 % spread});
      const std::vector<Outcome> together = tiny_.Run(options, arrivals);
      for (size_t i = 0; i < kRequests; ++i) {
        SCOPED_TRACE(i);
        ExpectSame(together[i], alone[i], !options.prefix_cache);
      }
    }
  }
}

TEST_P(SchedulerLawsTest, L7PrefixCacheChangesNothing) {
  std::vector<Arrival> arrivals;
  std::vector<Outcome> off;
  for (size_t i = 0; i < 40; ++i) {
    const size_t shared[] = {0, 63, 64, 65, 130, 192, 200};
    SequenceRequest request = MakeRequest(i);
    request.prompt = TinyTokens(200, 1000 + i % 3);
    request.prompt.resize(shared[i % 7]);
    const std::vector<int32_t> rest = TinyTokens(i % 4 == 0 ? 1 : 66, i / 2);
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    off.push_back(tiny_.Alone(request));
    EXPECT_EQ(off.back().result.cached_tokens, 0U);
    arrivals.push_back({request, i * 5 % 60});
  }
  for (const int max_positions : {100000, 1600}) {  // everything is kept | pages are evicted all the time
    for (const int max_rows : {40, 512}) {
      const SchedulerOptions options = {.max_rows = max_rows, .max_positions = max_positions, .prefix_cache = true};
      const std::vector<Outcome> on = tiny_.Run(options, arrivals);
      size_t cached = 0;
      for (size_t i = 0; i < on.size(); ++i) {
        SCOPED_TRACE(::testing::Message() << i << " of " << max_positions);
        ExpectSame(on[i], off[i], false);
        const SequenceResult& result = on[i].result;
        const SkipCounts& all = off[i].result.prefill_counts;
        EXPECT_EQ(result.prefill_counts.run[0] + result.prefill_counts.skipped[0] + result.cached_tokens,
                  all.run[0] + all.skipped[0]);
        EXPECT_TRUE(!arrivals[i].request.score_prompt || result.cached_tokens == 0U);
        cached += result.cached_tokens;
      }
      EXPECT_GT(cached, 64U * 10U);
    }
  }
}

TEST_P(SchedulerLawsTest, ManyChoicesAreManyRequestsWithTheirSeeds) {
  for (const size_t prompt : {5UL, 64UL, 100UL}) {
    SequenceRequest request = tiny_.Generation(prompt, 3, 12, 0.4);
    request.sampling.temperature = 25.0F;
    request.sampling.top_p = 1.0F;
    request.sampling.top_k = 0;
    request.sampling.presence_penalty = 0.7F;
    request.sampling.seed = 77;
    request.top_log_probs = 3;
    request.num_choices = 5;
    const Outcome together = tiny_.Alone(request);
    ASSERT_EQ(together.result.choices.size(), 5U);
    EXPECT_NE(together.result.choices[0].token_ids, together.result.choices[1].token_ids);
    request.num_choices = 1;
    for (size_t c = 0; c < 5; ++c) {
      request.sampling.seed = 77 + c;
      const Outcome one = tiny_.Alone(request);
      const ChoiceResult& choice = together.result.choices[c];
      EXPECT_EQ(choice.token_ids, one.result.choices[0].token_ids);
      EXPECT_EQ(choice.text, one.result.choices[0].text);
      EXPECT_EQ(choice.decode_counts, one.result.choices[0].decode_counts);
      ExpectSame(choice.tokens, one.result.choices[0].tokens);
      EXPECT_EQ(together.result.prefill_counts, one.result.prefill_counts);  // the prompt ran once
    }
  }
}

// The next turn of a conversation goes on from what was decoded, if it was decoded as a prompt would have been run.
TEST_P(SchedulerLawsTest, AConversationGoesOnFromItsPages) {
  for (const double decode : {0.4, 0.2}) {
    Scheduler scheduler(tiny_.model(), {.prefix_cache = true});
    SequenceRequest first = tiny_.Generation(70, 5, 80, 0.4);
    first.decode = tiny_.Plan(decode);
    Outcome one, two;
    SchedulerModel::Add(scheduler, first, &one);
    while (scheduler.Step()) {
    }
    SequenceRequest second = tiny_.Generation(1, 6, 8, 0.4);
    second.prompt = first.prompt;
    const std::vector<int32_t>& said = one.result.choices[0].token_ids;
    second.prompt.insert(second.prompt.end(), said.begin(), said.end());
    second.prompt.push_back(9);
    SchedulerModel::Add(scheduler, second, &two);
    while (scheduler.Step()) {
    }
    // 149 positions have run. Decoded ones are of use under the same plan only.
    EXPECT_EQ(two.result.cached_tokens, decode == 0.4 ? 128U : 64U);
    ExpectSame(two, tiny_.Alone(second), false);
  }
}

TEST_P(SchedulerLawsTest, PagesAreSharedUnderTheSamePlanOnly) {
  Scheduler scheduler(tiny_.model(), {.prefix_cache = true});
  const auto cached = [&](SequenceRequest request) {
    Outcome outcome;
    SchedulerModel::Add(scheduler, request, &outcome);
    while (scheduler.Step()) {
    }
    ExpectSame(outcome, tiny_.Alone(request), false);
    return outcome.result.cached_tokens;
  };
  const SequenceRequest request = tiny_.Generation(128, 8, 2, 0.4);
  EXPECT_EQ(cached(request), 0U);
  EXPECT_EQ(cached(request), 64U);  // the last row gives the logits: it runs, with its page
  SequenceRequest other_budget = tiny_.Generation(128, 8, 2, 0.2);
  EXPECT_EQ(cached(other_budget), 0U);
  EXPECT_EQ(cached(other_budget), 64U);
  SequenceRequest plain = tiny_.Generation(128, 8, 2, 0);
  EXPECT_EQ(cached(plain), 0U);
  plain.use_adapter = false;
  EXPECT_EQ(cached(plain), 0U);
  EXPECT_EQ(cached(tiny_.Generation(128, 8, 2, 0.4)), 64U);  // an equal plan, not the same object
  EXPECT_EQ(scheduler.stats().prompts_cached, 3U);
  EXPECT_EQ(scheduler.stats().cached_tokens, 192U);
}

INSTANTIATE_TEST_SUITE_P(
    Models, SchedulerLawsTest,
    ::testing::Values(
        LawCase{"LlamaCopy", TinyArch::kLlama, {.kv_rule = KvRule::kCopy, .skip_rank = 4, .lora_rank = 4}},
        LawCase{"GemmaDrop", TinyArch::kGemma3, {.kv_rule = KvRule::kDrop}},
        LawCase{"LlamaCompute", TinyArch::kLlama, {.kind = GateKind::kLowRank}},
        LawCase{"LlamaCopyQ8Cache", TinyArch::kLlama, {.kv_rule = KvRule::kCopy}, KvCacheFormat::kQ8_0}),
    [](const ::testing::TestParamInfo<LawCase>& law) { return std::string(law.param.name); });

}  // namespace
}  // namespace gateskip::testing
