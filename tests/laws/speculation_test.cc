// SPDX-License-Identifier: Apache-2.0
// Law L8: speculative decoding gives what plain decoding gives, bit for bit: tokens, texts, log-probabilities and the
// masks of the rows they come from; greedy or sampled, alone or among others, in the Engine and in the scheduler.
#include <algorithm>
#include <cmath>
#include <map>

#include "support/scheduler_runner.h"

namespace gateskip::testing {
namespace {

using enum TinyArch;
using enum DraftKind;

struct DraftCase {
  const char* name;
  TinyArch arch;
  TinyAdapterOptions adapter;
  SpeculationOptions speculation;
};

void PrintTo(const DraftCase& draft, std::ostream* out) { *out << draft.name; }

class SpeculationTest : public ::testing::TestWithParam<DraftCase> {
 protected:
  SchedulerModel tiny_{GetParam().arch, GetParam().adapter};

  SequenceRequest MakeRequest(size_t i) const {
    const double budgets[] = {0, 0.2};
    SequenceRequest request = tiny_.Generation(1 + i * 53 % 150, i % 11, 40, budgets[i % 2]);
    request.use_adapter = i % 4 != 3;
    if (!request.use_adapter) request.prefill = request.decode = DensePlan();
    const float temperatures[] = {0, 3, 25};  // the tiny model is very sure of itself
    request.sampling.temperature = temperatures[i % 3];
    request.sampling.top_k = i % 2 == 0 ? 0 : 20;
    request.sampling.seed = i;
    if (i % 5 == 1) request.sampling.frequency_penalty = 1.5F;
    if (i % 5 == 2) request.sampling.repeat_penalty = 1.2F;
    if (i % 6 == 3) request.num_choices = 3;
    if (i % 4 == 1) request.stop = {"e", "th"};
    request.top_log_probs = i % 4 == 0 ? 5 : 0;
    request.ignore_eos = i % 2 == 0;
    return request;
  }
};

constexpr size_t kRequests = 18;

TEST_P(SpeculationTest, L8TheSchedulersTextIsThatOfPlainDecoding) {
  std::vector<Outcome> plain;
  for (size_t i = 0; i < kRequests; ++i) plain.push_back(tiny_.Alone(MakeRequest(i)));
  uint64_t drafted = 0, accepted = 0, tokens = 0, steps = 0;
  for (const SchedulerOptions& options :
       {SchedulerOptions{.max_sequences = 1}, SchedulerOptions{.max_sequences = 4}, SchedulerOptions{.max_rows = 5},
        SchedulerOptions{.max_rows = 64, .max_positions = 2000, .prefix_cache = true}}) {
    SCOPED_TRACE(::testing::Message() << "max_rows " << options.max_rows << ", sequences " << options.max_sequences);
    std::vector<Arrival> arrivals;
    for (size_t i = 0; i < kRequests; ++i) {
      arrivals.push_back({MakeRequest(i), i * 7 % 11});
      arrivals.back().request.speculation = GetParam().speculation;
    }
    const std::vector<Outcome> together = tiny_.Run(options, arrivals);
    for (size_t i = 0; i < kRequests; ++i) {
      SCOPED_TRACE(i);
      ExpectSame(together[i], plain[i], !options.prefix_cache);
      for (const ChoiceResult& choice : together[i].result.choices) {
        drafted += choice.speculation.drafted;
        accepted += choice.speculation.accepted;
        tokens += choice.token_ids.size();
        steps += choice.speculation.steps;
        EXPECT_LE(choice.speculation.accepted, choice.speculation.drafted);
      }
    }
  }
  EXPECT_GT(accepted, 0U);
  EXPECT_LT(accepted, drafted);  // both outcomes were met
  EXPECT_LT(steps, tokens);
}

TEST_P(SpeculationTest, L8TheEnginesTextIsThatOfPlainDecoding) {
  const auto engine = Engine::Load(tiny_.options());
  uint64_t accepted = 0;
  for (size_t i = 0; i < kRequests; ++i) {
    SCOPED_TRACE(i);
    const SequenceRequest request = MakeRequest(i);
    const double budget = request.decode->requested_budget;
    GenerateOptions options = {.max_tokens = request.max_tokens,
                               .stop = request.stop,
                               .ignore_eos = request.ignore_eos,
                               .sampling = request.sampling,
                               .budget = {.prefill = budget, .decode = budget, .use_adapter = request.use_adapter}};
    const GenerateResult plain = engine->Generate(request.prompt, options);
    EXPECT_EQ(plain.speculation.drafted, 0U);
    options.speculation = GetParam().speculation;
    const GenerateResult drafted = engine->Generate(request.prompt, options);
    EXPECT_EQ(drafted.token_ids, plain.token_ids);
    EXPECT_EQ(drafted.text, plain.text);
    EXPECT_EQ(drafted.finish_reason, plain.finish_reason);
    EXPECT_EQ(drafted.decode_saving.branches_run, plain.decode_saving.branches_run);
    EXPECT_EQ(drafted.decode_saving.branches_skipped, plain.decode_saving.branches_skipped);
    EXPECT_EQ(drafted.decode_saving.net, plain.decode_saving.net);
    accepted += drafted.speculation.accepted;
    // The cache holds what plain decoding left: the next turn finds it and goes on the same way.
    std::vector<int32_t> next = request.prompt;
    next.insert(next.end(), plain.token_ids.begin(), plain.token_ids.end());
    next.push_back(7);
    options.speculation = {};
    const GenerateResult after = engine->Generate(next, options);
    const auto fresh = Engine::Load(tiny_.options());
    EXPECT_EQ(after.token_ids, fresh->Generate(next, options).token_ids);
  }
  EXPECT_GT(accepted, 0U);
}

// The same, seen as counts: of n sampled texts that begin alike, a next token of probability p comes np times, give or
// take sqrt(np(1-p)); 5 of those are missed once in 1.7 million.
TEST_P(SpeculationTest, SamplesFollowTheModelsDistribution) {
  constexpr int kDraws = 500;
  constexpr double kTemperature = 25;
  SequenceRequest request = tiny_.Generation(40, 3, 2, 0);
  request.sampling = {.temperature = kTemperature, .top_k = 4, .top_p = 1.0F};
  request.speculation = GetParam().speculation;
  std::vector<Arrival> arrivals;
  for (int i = 0; i < kDraws; ++i) {
    request.sampling.seed = 1000 + static_cast<uint64_t>(i);
    arrivals.push_back({request, static_cast<size_t>(i)});
  }
  std::map<int32_t, std::vector<int32_t>> seconds;  // the second tokens, by the first
  for (const Outcome& outcome : tiny_.Run({}, arrivals)) {
    const std::vector<int32_t>& ids = outcome.result.choices[0].token_ids;
    seconds[ids.at(0)].push_back(ids.at(1));
  }
  for (const auto& [first, drawn] : seconds) {
    SequenceRequest exact = tiny_.Generation(40, 3, 1, 0);
    exact.prompt.push_back(first);
    exact.top_log_probs = 4;
    const Outcome reference = tiny_.Alone(exact);
    const std::vector<TokenCandidate>& top = reference.result.choices[0].tokens.top[0];
    double total = 0;
    for (const TokenCandidate& candidate : top) total += std::exp(candidate.log_prob / kTemperature);
    const auto n = static_cast<double>(drawn.size());
    for (const TokenCandidate& candidate : top) {
      const double p = std::exp(candidate.log_prob / kTemperature) / total;
      const auto count = static_cast<double>(std::ranges::count(drawn, candidate.id));
      EXPECT_NEAR(count, n * p, 5 * std::sqrt(n * p * (1 - p))) << first << " " << candidate.id;
    }
  }
  EXPECT_GE(seconds.size(), 3U);
}

TEST_P(SpeculationTest, RefusesDraftsThatMakeNoSense) {
  const auto engine = Engine::Load(tiny_.options());
  const std::vector<int32_t> prompt = TinyTokens(5, 1);
  for (const SpeculationOptions& bad : {SpeculationOptions{.draft = DraftKind::kGates, .budget = 0.0},
                                        SpeculationOptions{.draft = DraftKind::kGates, .budget = 0.9},
                                        SpeculationOptions{.draft = DraftKind::kGates, .budget = NAN},
                                        SpeculationOptions{.draft = DraftKind::kEarlyExit, .budget = 0.99},
                                        SpeculationOptions{.draft = DraftKind::kNgram, .max_tokens = 0},
                                        SpeculationOptions{.draft = DraftKind::kNgram, .max_tokens = 33}}) {
    GenerateOptions options;
    options.speculation = bad;
    EXPECT_THROW(engine->Generate(prompt, options), Error);
    Scheduler scheduler(tiny_.model(), {});
    SequenceRequest request = tiny_.Generation(5, 1, 5);
    request.speculation = bad;
    EXPECT_THROW(scheduler.Add(request, [](SequenceResult&&) {}), Error);
    EXPECT_FALSE(scheduler.Step());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Drafts, SpeculationTest,
    ::testing::Values(DraftCase{"GatesCompute", kLlama, {.skip_rank = 4, .lora_rank = 4}, {kGates, 0.4, 8, false}},
                      DraftCase{"GatesComputeAdaptive", kLlama, {.skip_rank = 4, .lora_rank = 4}, {kGates, 0.4, 8}},
                      DraftCase{"GatesCopy", kLlama, {.kv_rule = KvRule::kCopy}, {kGates, 0.4, 3, false}},
                      DraftCase{"GatesDrop", kGemma3, {.kv_rule = KvRule::kDrop}, {kGates, 0.3, 32, false}},
                      DraftCase{"Exit", kLlama, {.kv_rule = KvRule::kCopy}, {kEarlyExit, 0.25, 4, false}},
                      DraftCase{"ExitGemma", kGemma3, {}, {kEarlyExit, 0.3, 1, false}},
                      DraftCase{"Ngram", kLlama, {.kv_rule = KvRule::kDrop}, {kNgram, 0.5, 8}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gateskip::testing
