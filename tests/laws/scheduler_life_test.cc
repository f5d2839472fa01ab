// SPDX-License-Identifier: Apache-2.0
// The life of a request: its events, its end in every phase, and who waits for whom. Counted in steps, never in time.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <set>

#include "kernels/kernels.h"
#include "support/scheduler_runner.h"

namespace gateskip::testing {
namespace {

class SchedulerLifeTest : public ::testing::Test {
 protected:
  static uint64_t Add(Scheduler& scheduler, const SequenceRequest& request, Outcome* outcome) {
    return SchedulerModel::Add(scheduler, request, outcome);
  }
  static void RunAll(Scheduler& scheduler) {
    for (int step = 0; scheduler.Step(); ++step) ASSERT_LT(step, 100000);
  }

  // Draws that vary, from a model that is very sure of itself.
  SequenceRequest Varied(size_t prompt, uint64_t seed, int max_tokens, double budget = 0.2) const {
    SequenceRequest request = tiny_.Generation(prompt, seed, max_tokens, budget);
    request.sampling.temperature = 25.0F;
    request.sampling.top_p = 1.0F;
    request.sampling.seed = seed;
    return request;
  }

  SchedulerModel tiny_{TinyArch::kLlama, {.kv_rule = KvRule::kCopy}};
};

// --- events
// ------------------------------------------------------------------------------------------------------------

TEST_F(SchedulerLifeTest, EventsTellTheWholeStory) {
  for (const bool ignore_eos : {true, false}) {
    SequenceRequest request = Varied(30, 4, 60, 0.4);
    request.num_choices = 4;
    request.top_log_probs = 4;
    request.ignore_eos = ignore_eos;
    request.stop = {"e", "\xC3", "99"};
    const Outcome outcome = tiny_.Alone(request);
    std::set<FinishReason> reasons;
    for (size_t c = 0; c < 4; ++c) {
      const ChoiceResult& choice = outcome.result.choices[c];
      std::vector<TokenEvent> events;
      std::ranges::copy_if(outcome.events, std::back_inserter(events),
                           [&](const TokenEvent& e) { return e.choice == static_cast<int>(c); });
      ASSERT_EQ(events.size(), choice.token_ids.size() + 1);
      ASSERT_EQ(choice.tokens.log_probs.size(), choice.token_ids.size());
      std::string text;
      for (size_t i = 0; i + 1 < events.size(); ++i) {
        EXPECT_EQ(events[i].id, choice.token_ids[i]);
        EXPECT_EQ(events[i].log_prob, choice.tokens.log_probs[i]);
        EXPECT_EQ(events[i].top, choice.tokens.top[i]);
        EXPECT_FALSE(events[i].finish);
        ASSERT_EQ(events[i].top.size(), 4U);
        EXPECT_EQ(choice.tokens.is_greedy[i] != 0, events[i].id == events[i].top[0].id);
        for (const TokenCandidate& candidate : events[i].top) EXPECT_LE(candidate.log_prob, events[i].top[0].log_prob);
        text += events[i].text;
      }
      EXPECT_EQ(events.back().id, -1);
      EXPECT_EQ(events.back().finish, choice.finish_reason);
      EXPECT_EQ(text + events.back().text, choice.text);
      // A token's share is that of the row it was drawn from: all but the first are counted as decoded.
      double skipped = 0;
      for (size_t i = 1; i + 1 < events.size(); ++i) skipped += events[i].skipped_share;
      const SkipCounts& counts = choice.decode_counts;
      uint64_t expected = 0;
      for (const uint64_t n : counts.skipped) expected += n;
      const auto branches = static_cast<double>(counts.run.size());
      if (choice.finish_reason != FinishReason::kEndOfText) {
        EXPECT_NEAR(skipped * branches, static_cast<double>(expected), 1e-3);
      }
      reasons.insert(choice.finish_reason);
    }
    EXPECT_TRUE(reasons.contains(FinishReason::kStopString));
    EXPECT_EQ(outcome.result.finish_reason, outcome.result.choices[0].finish_reason);
  }
}

// The likeliest of the model's own distribution, whatever the sampler does with it.
TEST_F(SchedulerLifeTest, LogProbabilitiesAreTheModelsOwn) {
  SequenceRequest request = tiny_.Generation(20, 1, 1);
  request.top_log_probs = 20;
  const Outcome plain = tiny_.Alone(request);
  const int32_t best = plain.result.choices[0].token_ids[0];
  const TokenCandidate second = plain.result.choices[0].tokens.top[0][1];
  request.sampling.logit_bias = {{second.id, 100.0F}};
  request.sampling.temperature = 0.5F;
  const ChoiceResult biased = tiny_.Alone(request).result.choices[0];
  EXPECT_EQ(biased.token_ids[0], second.id);
  EXPECT_EQ(biased.tokens.log_probs[0], second.log_prob);
  EXPECT_EQ(biased.tokens.is_greedy[0], 0);
  EXPECT_EQ(biased.tokens.top, plain.result.choices[0].tokens.top);
  // As a prompt that is scored, the same tokens have the same log-probabilities (law L6).
  SequenceRequest scoring;
  scoring.prompt = request.prompt;
  scoring.prompt.push_back(best);
  scoring.score_prompt = true;
  scoring.top_log_probs = 20;
  const ScoredTokens scored = tiny_.Alone(scoring).result.prompt;
  EXPECT_EQ(scored.log_probs.back(), plain.result.choices[0].tokens.log_probs[0]);
  EXPECT_EQ(scored.top.back(), plain.result.choices[0].tokens.top[0]);
  EXPECT_EQ(scored.top.size(), 20U);
}

// --- cancelling
// --------------------------------------------------------------------------------------------------------

enum class Phase { kQueued, kPrompt, kDecode, kSomeChoicesEnded, kContinuations };

TEST_F(SchedulerLifeTest, CancelInAnyPhaseFreesAllAndDisturbsNobody) {
  const std::vector<SequenceRequest> others = {Varied(100, 1, 40), Varied(3, 2, 60, 0.4), Varied(64, 3, 50, 0)};
  std::vector<Outcome> alone;
  for (const SequenceRequest& other : others) alone.push_back(tiny_.Alone(other));
  for (const Phase phase :
       {Phase::kQueued, Phase::kPrompt, Phase::kDecode, Phase::kSomeChoicesEnded, Phase::kContinuations}) {
    for (const bool prefix_cache : {false, true}) {
      for (const bool with_others : {false, true}) {
        SCOPED_TRACE(::testing::Message() << static_cast<int>(phase) << prefix_cache << with_others);
        SequenceRequest victim = Varied(150, 9, 100, 0.4);
        if (phase == Phase::kContinuations) {
          victim.max_tokens = 0;
          victim.continuations = {TinyTokens(90, 1), TinyTokens(50, 2)};
        }
        if (phase == Phase::kSomeChoicesEnded) {
          victim.num_choices = 6;
          victim.stop = {"e"};
        }
        Scheduler scheduler(tiny_.model(), {.max_rows = 24, .max_sequences = 9, .prefix_cache = prefix_cache});
        std::vector<Outcome> outcomes(others.size());
        for (size_t i = 0; i < others.size() && with_others; ++i) Add(scheduler, others[i], &outcomes[i]);
        Outcome outcome, blocker;
        uint64_t blocker_id = 0;
        if (phase == Phase::kQueued) {
          SequenceRequest wide = Varied(10, 5, 100);
          wide.num_choices = 9;  // takes all sequences
          blocker_id = Add(scheduler, wide, &blocker);
        }
        const uint64_t id = Add(scheduler, victim, &outcome);
        const auto reached = [&] {
          const auto ended =
              std::ranges::count_if(outcome.events, [](const TokenEvent& e) { return e.finish.has_value(); });
          switch (phase) {
            case Phase::kQueued:
              return scheduler.stats().waiting > 0;
            case Phase::kPrompt:
              return scheduler.stats().steps >= 3;
            case Phase::kDecode:
              return outcome.events.size() >= 5;
            case Phase::kSomeChoicesEnded:
              return ended > 0;
            case Phase::kContinuations:
              return scheduler.stats().prompt_tokens >= 150 + 20 + (with_others ? 167U : 0U);
          }
          return false;
        };
        while (!reached()) ASSERT_TRUE(scheduler.Step());
        const size_t events = outcome.events.size();
        ASSERT_EQ(outcome.done, 0);
        EXPECT_TRUE(scheduler.Cancel(id));
        EXPECT_EQ(outcome.done, 1);
        EXPECT_EQ(outcome.result.finish_reason, FinishReason::kCancelled);
        EXPECT_FALSE(outcome.result.error);
        EXPECT_FALSE(scheduler.Cancel(id));
        EXPECT_EQ(scheduler.Cancel(blocker_id), blocker_id != 0);
        if (!with_others) SchedulerModel::ExpectAtRest(scheduler);
        EXPECT_TRUE(prefix_cache || with_others || scheduler.stats().pages_in_use == 0);
        RunAll(scheduler);
        EXPECT_EQ(outcome.events.size(), events);
        EXPECT_EQ(outcome.done, 1);
        for (size_t i = 0; i < others.size() && with_others; ++i) ExpectSame(outcomes[i], alone[i], true);
        SchedulerModel::ExpectAtRest(scheduler);
        EXPECT_TRUE(prefix_cache || scheduler.stats().pages_in_use == 0);
      }
    }
  }
}

TEST_F(SchedulerLifeTest, CallbacksMayCancelAndAdd) {
  Scheduler scheduler(tiny_.model(), {});
  const SequenceRequest other = Varied(50, 1, 30);
  Outcome neighbour, late;
  std::vector<FinishReason> ends;
  SequenceRequest request = Varied(20, 2, 50);
  request.num_choices = 3;  // three tokens a step: the sixth is on its way when the fifth cancels
  uint64_t id = 0;
  int tokens = 0;
  request.on_token = [&](TokenEvent&&) {
    if (++tokens < 5) return;
    EXPECT_TRUE(scheduler.Cancel(id));
    EXPECT_FALSE(scheduler.Cancel(id));
    EXPECT_TRUE(ends.empty());  // comes in its turn, not from within
    Add(scheduler, other, &late);
  };
  id = scheduler.Add(request, [&](SequenceResult&& result) { ends.push_back(result.finish_reason); });
  Add(scheduler, other, &neighbour);
  RunAll(scheduler);
  EXPECT_EQ(tokens, 5);
  EXPECT_EQ(ends, std::vector{FinishReason::kCancelled});
  const Outcome alone = tiny_.Alone(other);
  ExpectSame(neighbour, alone, true);
  ExpectSame(late, alone, true);
}

TEST_F(SchedulerLifeTest, WhatACallbackThrowsLeavesTheOthersWhole) {
  Scheduler scheduler(tiny_.model(), {});
  Outcome neighbour;
  scheduler.Add(Varied(20, 2, 3), [](SequenceResult&&) { throw std::runtime_error("the caller's"); });
  const SequenceRequest other = Varied(50, 1, 30);
  Add(scheduler, other, &neighbour);
  int thrown = 0;
  for (bool more = true; more;) {
    try {
      more = scheduler.Step();
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  }
  EXPECT_EQ(thrown, 1);
  ExpectSame(neighbour, tiny_.Alone(other), true);
  SchedulerModel::ExpectAtRest(scheduler);
}

// --- deadlines, errors
// -------------------------------------------------------------------------------------------------

TEST_F(SchedulerLifeTest, QueuedPastItsDeadlineDoesNotRun) {
  Scheduler scheduler(tiny_.model(), {.max_sequences = 1});
  const auto now = std::chrono::steady_clock::now();
  std::array<Outcome, 3> outcomes;
  SequenceRequest request = Varied(20, 2, 8);
  Add(scheduler, request, &outcomes[0]);
  request.deadline = now - std::chrono::seconds(1);
  Add(scheduler, request, &outcomes[1]);
  request.deadline = now + std::chrono::hours(1);
  Add(scheduler, request, &outcomes[2]);
  RunAll(scheduler);
  EXPECT_EQ(outcomes[1].done, 1);
  EXPECT_EQ(outcomes[1].result.finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(outcomes[1].done_step, 1U);  // told with the first step, not when its turn would have come
  EXPECT_TRUE(outcomes[1].events.empty());
  EXPECT_EQ(scheduler.stats().prompt_tokens, 40U);
  EXPECT_EQ(scheduler.stats().expired, 1U);
  ExpectSame(outcomes[0], outcomes[2], true);
}

// A model that gives no usable number: each request that wanted one ends with the error, Step does not throw.
TEST_F(SchedulerLifeTest, UnusableLogitsEndTheRequestNotTheScheduler) {
  std::vector<std::byte> bytes = TinyGguf({.dtype = DType::kF32});
  {
    const auto file = OpenTiny(bytes);
    const TensorView* embedding = file->FindTensor("token_embd.weight");
    const size_t row_bytes = embedding->data.size() / static_cast<size_t>(embedding->shape[0]);
    const auto last_row =
        static_cast<size_t>(embedding->data.data() - bytes.data()) + embedding->data.size() - row_bytes;
    const float nan = std::numeric_limits<float>::quiet_NaN();  // of a token that no prompt has, but all logits do
    std::memcpy(bytes.data() + last_row, &nan, sizeof nan);
  }
  const SchedulerModel damaged(bytes, {});
  Scheduler scheduler(damaged.model(), {});
  std::array<Outcome, 4> outcomes;
  SequenceRequest generate = damaged.Generation(20, 1, 5);
  generate.want_log_probs = false;
  generate.num_choices = 2;
  SequenceRequest score = damaged.Generation(20, 1, 0);
  score.score_prompt = true;
  SequenceRequest continuation = damaged.Generation(20, 1, 0);
  continuation.continuations = {{5, 6, 7}};
  Add(scheduler, generate, &outcomes[0]);
  Add(scheduler, score, &outcomes[1]);
  Add(scheduler, continuation, &outcomes[2]);
  Add(scheduler, damaged.Generation(20, 1, 0), &outcomes[3]);  // wants no numbers
  RunAll(scheduler);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(outcomes[i].done, 1);
    ASSERT_TRUE(outcomes[i].result.error) << i;
    EXPECT_EQ(outcomes[i].result.error->code(), ErrorCode::kCorruptData);
    EXPECT_EQ(outcomes[i].result.finish_reason, FinishReason::kCancelled);
  }
  EXPECT_EQ(outcomes[3].done, 1);
  EXPECT_FALSE(outcomes[3].result.error);
  EXPECT_EQ(scheduler.stats().pages_in_use, 0U);
}

// --- who waits for whom
// ------------------------------------------------------------------------------------------------

TEST_F(SchedulerLifeTest, KeysTakeTurnsAndAKeyIsServedInOrder) {
  Scheduler scheduler(tiny_.model(), {.max_sequences = 2});
  std::vector<Outcome> hog(20);
  std::array<Outcome, 2> first, last;  // in the order of their keys
  SequenceRequest request = Varied(10, 1, 5);
  const auto add = [&](const char* key, auto& outcomes) {
    request.fairness_key = key;
    for (Outcome& outcome : outcomes) Add(scheduler, request, &outcome);
  };
  add("hog", hog);
  add("a guest", first);
  add("the other guest", last);
  RunAll(scheduler);
  const auto before = [&](const Outcome& outcome) {
    return std::ranges::count_if(hog, [&](const Outcome& o) { return o.done_step < outcome.done_step; });
  };
  // Two at a time, every third of the hog's: a guest's n-th comes no later than beside the hog's n-th.
  for (const auto* guest : {&first, &last}) {
    EXPECT_LE(before((*guest)[0]), 1);
    EXPECT_LE(before((*guest)[1]), 2);
  }
  for (size_t i = 1; i < hog.size(); ++i) EXPECT_LE(hog[i - 1].done_step, hog[i].done_step);
}

// A long prompt runs beside one that decodes: a token comes in every step, and the step is at most doubled.
TEST_F(SchedulerLifeTest, ALongPromptDoesNotHoldUpTheOthers) {
  const SchedulerOptions options = {.max_rows = 256, .max_prompt_rows = 4};
  Scheduler scheduler(tiny_.model(), options);
  Outcome decoding, long_prompt, short_prompt;
  Add(scheduler, Varied(8, 1, 150), &decoding);
  scheduler.Step();
  ASSERT_EQ(decoding.events.size(), 1U);
  SequenceRequest request = Varied(400, 2, 1);
  request.fairness_key = "long";
  Add(scheduler, request, &long_prompt);
  scheduler.Step();
  request = Varied(20, 3, 1);
  request.fairness_key = "short";
  Add(scheduler, request, &short_prompt);
  const uint64_t start = scheduler.stats().steps;
  uint64_t steps = 0;
  while (long_prompt.done == 0) {
    const size_t tokens = decoding.events.size();
    ASSERT_TRUE(scheduler.Step());
    ASSERT_EQ(decoding.events.size(), tokens + 1);
    const SchedulerStats stats = scheduler.stats();
    EXPECT_EQ(stats.decode_rows, 1U);
    EXPECT_LE(stats.prompt_rows, 4U + 1U);
    EXPECT_GT(stats.prompt_rows, 0U);
    ++steps;
  }
  // The short one has every other step to itself: 20 rows by 4 or 5, twice.
  EXPECT_LE(short_prompt.done_step - start, 2 * 20 / 4 + 1);
  // Rows further in count for more, or it would have taken 400 / 5 steps.
  EXPECT_GE(steps, 400U / 5 + 5);
  EXPECT_LE(steps, 150U);
}

// Nothing waits, yet a step costs no more than max_rows at the beginning: Cancel has to come through.
TEST_F(SchedulerLifeTest, StepsOfALongPromptShrink) {
  Scheduler scheduler(tiny_.model(), {.max_rows = 100});
  Outcome outcome;
  Add(scheduler, Varied(400, 1, 1), &outcome);
  std::vector<size_t> rows;
  for (bool more = true; more;) {
    more = scheduler.Step();
    rows.push_back(scheduler.stats().prompt_rows);
  }
  // n rows from position p cost n (1 + (p + (n - 1) / 2) / 1024) of the first: 95 from 0, 88 from 95, 82 from 183.
  EXPECT_EQ(rows, (std::vector<size_t>{95, 88, 82, 77, 58}));
}

TEST_F(SchedulerLifeTest, AStepIsOnePassOverTheWeights) {
  Scheduler scheduler(tiny_.model(), {});
  std::array<Outcome, 16> outcomes;
  for (size_t i = 0; i < outcomes.size(); ++i) Add(scheduler, Varied(10 + i, i, 30, 0), &outcomes[i]);
  scheduler.Step();
  const uint64_t steps = scheduler.stats().steps;
  const auto bytes_of_step = [](Scheduler& s) {
    const uint64_t before = kernels::WeightBytesRead();
    s.Step();
    return kernels::WeightBytesRead() - before;
  };
  const uint64_t together = bytes_of_step(scheduler);
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.steps, steps + 1);
  EXPECT_EQ(stats.decode_rows, 16U);
  EXPECT_EQ(stats.prompt_rows, 0U);
  EXPECT_EQ(stats.generated_tokens, 32U);
  Scheduler single(tiny_.model(), {});
  Outcome outcome;
  Add(single, Varied(10, 1, 30, 0), &outcome);
  single.Step();
  EXPECT_EQ(together, bytes_of_step(single));
}

// More that decode than a step has rows: nobody is left behind.
TEST_F(SchedulerLifeTest, RowsGoRoundWhenAStepIsFull) {
  Scheduler scheduler(tiny_.model(), {.max_rows = 4});
  Outcome outcome;
  SequenceRequest request = Varied(10, 1, 20);
  request.num_choices = 7;
  Add(scheduler, request, &outcome);
  std::array<int, 7> tokens = {};
  size_t seen = 0;
  while (scheduler.Step()) {
    for (; seen < outcome.events.size(); ++seen) ++tokens[static_cast<size_t>(outcome.events[seen].choice)];
    EXPECT_LE(*std::ranges::max_element(tokens) - *std::ranges::min_element(tokens), 2);
  }
  ExpectSame(outcome, tiny_.Alone(request), true);
}

// --- pages
// -------------------------------------------------------------------------------------------------------------

// SchedulerModel::Run holds pages_in_use against the limit after every step.
TEST_F(SchedulerLifeTest, WorstCaseAdmissionNeverRunsOutOfPages) {
  for (const bool prefix_cache : {false, true}) {
    std::vector<Arrival> arrivals;
    for (size_t i = 0; i < 60; ++i) {
      SequenceRequest request =
          Varied(1 + i * 61 % 260, i % 5, 1 + static_cast<int>(i * 37 % 150), i % 2 == 0 ? 0.4 : 0);
      request.num_choices = 1 + static_cast<int>(i % 4);
      if (i % 6 == 5) request.continuations = {TinyTokens(100, i), TinyTokens(1, i), TinyTokens(65, i)};
      request.score_prompt = i % 10 == 3;
      arrivals.push_back({request, i});
    }
    // The widest: 260 and 150 positions, 4 choices, 3 continuations: 4 + 4 * 3 + 5 pages at most.
    tiny_.Run({.max_rows = 100, .max_positions = 21 * 64, .refuse_oversized = true, .prefix_cache = prefix_cache},
              arrivals);
  }
}

TEST_F(SchedulerLifeTest, WorstCaseIsNoMoreThanItTakes) {
  const auto fits = [&](const SequenceRequest& request, int pages) {
    Scheduler scheduler(tiny_.model(), {.max_rows = 32, .max_positions = 64 * pages, .refuse_oversized = true});
    Outcome outcome;
    try {
      Add(scheduler, request, &outcome);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kLimitExceeded);
      return false;
    }
    size_t most = 0;
    while (scheduler.Step()) most = std::max(most, scheduler.stats().pages_in_use);
    EXPECT_EQ(most, static_cast<size_t>(pages));
    return true;
  };
  EXPECT_TRUE(fits(Varied(64, 1, 1), 1));  // the last token does not run
  EXPECT_FALSE(fits(Varied(64, 1, 2), 1));
  EXPECT_TRUE(fits(Varied(60, 1, 69), 2));
  SequenceRequest choices = Varied(70, 1, 59);  // one page shared, and one each
  choices.num_choices = 5;
  EXPECT_FALSE(fits(choices, 5));
  EXPECT_TRUE(fits(choices, 6));
}

TEST_F(SchedulerLifeTest, AnOversizedRequestRunsAloneUnlessRefused) {
  const SequenceRequest large = Varied(200, 1, 20);
  const SequenceRequest small = Varied(10, 2, 20);
  const std::vector<Outcome> outcomes = [&] {
    Scheduler scheduler(tiny_.model(), {.max_positions = 64});
    std::vector<Outcome> result(3);
    Add(scheduler, small, &result[0]);
    Add(scheduler, large, &result[1]);
    Add(scheduler, small, &result[2]);
    while (scheduler.Step()) EXPECT_LE(scheduler.stats().running, 1U);
    return result;
  }();
  ExpectSame(outcomes[1], tiny_.Alone(large), true);
  EXPECT_LT(outcomes[0].done_step, outcomes[1].done_step);
  EXPECT_LT(outcomes[1].done_step, outcomes[2].done_step);
}

// Requests with the same long beginning that come at once: the first runs it, the others take it as it comes.
TEST_F(SchedulerLifeTest, ABeginningRunsOnceForAll) {
  Scheduler scheduler(tiny_.model(), {.max_rows = 64, .max_positions = 64 * 20, .prefix_cache = true});
  std::array<Outcome, 8> outcomes;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    SequenceRequest request = Varied(256, 1, 4);
    request.prompt.push_back(static_cast<int32_t>(20 + i));
    Add(scheduler, request, &outcomes[i]);
  }
  RunAll(scheduler);
  const SchedulerStats stats = scheduler.stats();
  // But for the page that the first is at the end of when the second sets out.
  EXPECT_LE(stats.prompt_tokens, 256U + 8U + 64U);
  EXPECT_EQ(stats.prompt_tokens + stats.cached_tokens, 8U * 257U);
  EXPECT_EQ(stats.cached_pages, 4U);
}

}  // namespace
}  // namespace gateskip::testing
