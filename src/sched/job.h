// SPDX-License-Identifier: Apache-2.0
// A request on its way to its result, and the sequences of rows that it consists of.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/loaded_model.h"
#include "runtime/sampler.h"
#include "runtime/text_sink.h"
#include "sched/kv_pool.h"
#include "sched/request.h"

namespace gateskip {

// What was drawn from a row.
struct Draw {
  int32_t id = 0;
  float log_prob = 0;
  bool is_greedy = false;
  std::vector<TokenCandidate> top;
};

// One of the generations that continue the prompt.
struct Choice {
  Choice(const LoadedModel& model, const SequenceRequest& request, int index, ChoiceResult* result);

  Sampler sampler;
  TextSink sink;
  Draw draw;  // of the step at hand
};

struct Job {
  using Clock = std::chrono::steady_clock;

  // Throws Error(kInvalidArgument) for sampling options or stop strings out of range.
  Job(const LoadedModel& model, SequenceRequest asked, std::function<void(SequenceResult&&)> on_done);

  bool Generates() const { return request.max_tokens > 0; }
  bool WantsScores() const { return request.want_log_probs || request.top_log_probs > 0; }  // of generated tokens
  // Sequences that run at the same time, once the prompt is through.
  size_t NumSequences() const;
  // The most pages it can come to hold; the prompt's are shared by what follows it.
  size_t WorstPages() const;
  // Pages of the prompt that need not run if they are known: the last row gives logits, and scoring asks for all.
  size_t ReusablePages() const;

  SequenceRequest request;
  SequenceResult result;
  std::function<void(SequenceResult&&)> done;
  std::deque<Choice> choices;
  KvLease lease;
  uint64_t id = 0;
  size_t open_lanes = 1;
  Clock::time_point added, admitted, prefilled;
};

// The prompt and, after it, the first choice; another choice; or a continuation.
struct Lane {
  std::shared_ptr<Job> job;
  KvSequence kv;
  std::vector<int32_t> ids;
  int choice = 0;
  int continuation = -1;   // -1: none, it is the prompt or a choice
  size_t next = 0;         // the first position that has not run
  bool decoding = false;   // the prompt is through and a choice goes on
  uint64_t last_step = 0;  // that had rows of it

  bool is_continuation() const { return continuation >= 0; }
  // The last token of a continuation is scored, not run.
  size_t end() const { return is_continuation() ? ids.size() - 1 : ids.size(); }
  bool WantsLogits(size_t position) const;
};

}  // namespace gateskip
