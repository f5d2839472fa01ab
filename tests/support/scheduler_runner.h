// SPDX-License-Identifier: Apache-2.0
// Drives a Scheduler on a tiny model: requests that arrive at given steps, and all that comes back of them.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/testing/temp_directory.h"
#include "runtime/loaded_model.h"
#include "sched/scheduler.h"
#include "support/tiny_model.h"

namespace gateskip::testing {

// What came back of a request.
struct Outcome {
  SequenceResult result;
  std::vector<TokenEvent> events;
  int done = 0;            // times that `done` was called
  uint64_t done_step = 0;  // Scheduler steps by then
};

struct Arrival {
  SequenceRequest request;
  size_t step = 0;  // is added before this one
};

// A tiny model with an adapter, loaded as a server does.
class SchedulerModel {
 public:
  SchedulerModel(TinyArch arch, const TinyAdapterOptions& adapter_options, KvCacheFormat kv_cache = KvCacheFormat::kF16)
      : SchedulerModel(TinyGguf({.arch = arch}), adapter_options, kv_cache) {}
  SchedulerModel(const std::vector<std::byte>& bytes, const TinyAdapterOptions& adapter_options,
                 KvCacheFormat kv_cache = KvCacheFormat::kF16) {
    options_.kv_cache = kv_cache;
    options_.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    adapter_ = TinyAdapter(*OpenTiny(bytes), adapter_options);
    options_.adapter_path = directory_.path() + "/adapter";
    WriteAdapter(adapter_, options_.adapter_path, false);
    options_.threads = 2;
    options_.self_test = false;
    model_ = LoadModel(options_);
  }

  const LoadedModel& model() const { return *model_; }
  const EngineOptions& options() const { return options_; }
  // A new plan every time, as a server makes one for each request.
  SkipPlanPtr Plan(double budget) const { return GatesPlan(adapter_.config, budget); }

  // A prompt of made-up tokens and what to generate from it.
  SequenceRequest Generation(size_t prompt, uint64_t seed, int max_tokens, double budget = 0) const {
    SequenceRequest request;
    request.prompt = TinyTokens(prompt, seed);
    request.max_tokens = max_tokens;
    request.prefill = request.decode = Plan(budget);
    request.want_log_probs = true;
    request.ignore_eos = true;
    return request;
  }

  // Adds with a recorder on. The Outcome outlives the scheduler's use of it.
  static uint64_t Add(Scheduler& scheduler, SequenceRequest request, Outcome* outcome) {
    request.on_token = [outcome](TokenEvent&& event) { outcome->events.push_back(std::move(event)); };
    return scheduler.Add(std::move(request), [outcome, &scheduler](SequenceResult&& result) {
      outcome->result = std::move(result);
      ++outcome->done;
      outcome->done_step = scheduler.stats().steps;
    });
  }

  // Runs all of them, in one Scheduler, until nothing is left. No page may be lost or over the limit on the way.
  std::vector<Outcome> Run(const SchedulerOptions& options, const std::vector<Arrival>& arrivals) const {
    Scheduler scheduler(*model_, options);
    std::vector<Outcome> outcomes(arrivals.size());
    for (size_t step = 0; step < 100000; ++step) {
      bool more_to_come = false;
      for (size_t i = 0; i < arrivals.size(); ++i) {
        if (arrivals[i].step == step) Add(scheduler, arrivals[i].request, &outcomes[i]);
        more_to_come = more_to_come || arrivals[i].step > step;
      }
      const bool more = scheduler.Step();
      const SchedulerStats stats = scheduler.stats();
      EXPECT_LE(stats.pages_in_use, stats.pages_total) << "step " << step;
      EXPECT_LE(stats.decode_rows + stats.prompt_rows, static_cast<size_t>(options.max_rows));
      if (!more && !more_to_come) break;
    }
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.done, 1);
    ExpectAtRest(scheduler);
    return outcomes;
  }

  static void ExpectAtRest(const Scheduler& scheduler) {
    const SchedulerStats stats = scheduler.stats();
    EXPECT_EQ(stats.waiting + stats.running, 0U);
    EXPECT_EQ(stats.pages_in_use, stats.cached_pages);
    EXPECT_EQ(stats.idle_cached_pages, stats.cached_pages);
  }

  Outcome Alone(const SequenceRequest& request) const { return std::move(Run({}, {{request}})[0]); }

 private:
  TempDirectory directory_;
  EngineOptions options_;
  Adapter adapter_;
  std::unique_ptr<LoadedModel> model_;
};

inline void ExpectSame(const ScoredTokens& a, const ScoredTokens& b) {
  EXPECT_EQ(a.log_probs, b.log_probs);
  EXPECT_EQ(a.is_greedy, b.is_greedy);
  EXPECT_EQ(a.top, b.top);
}

// Every bit: tokens, texts, log-probabilities, and masks as far as counts tell. `prefill_masks`: false where the prefix
// cache may have spared rows.
inline void ExpectSame(const Outcome& a, const Outcome& b, bool prefill_masks) {
  EXPECT_EQ(a.result.finish_reason, b.result.finish_reason);
  ExpectSame(a.result.prompt, b.result.prompt);
  ASSERT_EQ(a.result.continuations.size(), b.result.continuations.size());
  for (size_t i = 0; i < a.result.continuations.size(); ++i) {
    ExpectSame(a.result.continuations[i], b.result.continuations[i]);
  }
  ASSERT_EQ(a.result.choices.size(), b.result.choices.size());
  for (size_t i = 0; i < a.result.choices.size(); ++i) {
    const ChoiceResult& x = a.result.choices[i];
    const ChoiceResult& y = b.result.choices[i];
    EXPECT_EQ(x.token_ids, y.token_ids);
    EXPECT_EQ(x.text, y.text);
    EXPECT_EQ(x.finish_reason, y.finish_reason);
    ExpectSame(x.tokens, y.tokens);
    EXPECT_EQ(x.decode_counts, y.decode_counts);
  }
  if (prefill_masks) {
    EXPECT_EQ(a.result.prefill_counts, b.result.prefill_counts);
  }
  // Events of one choice come in order; those of several may interleave otherwise.
  for (size_t choice = 0; choice < a.result.choices.size(); ++choice) {
    const auto of = [&](const Outcome& outcome) {
      std::vector<std::tuple<int32_t, std::string, float, float, bool>> list;
      for (const TokenEvent& e : outcome.events) {
        if (e.choice != static_cast<int>(choice)) continue;
        list.emplace_back(e.id, e.text, e.log_prob, e.skipped_share, e.finish.has_value());
      }
      return list;
    };
    EXPECT_EQ(of(a), of(b));
  }
}

}  // namespace gateskip::testing
