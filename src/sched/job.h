// SPDX-License-Identifier: Apache-2.0
// A request on its way to its result, and the sequences of rows that it consists of.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/draft.h"
#include "runtime/loaded_model.h"
#include "runtime/sampler.h"
#include "runtime/text_sink.h"
#include "sched/kv_pool.h"
#include "sched/request.h"
#include "sched/token_scores.h"

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

  // Draws a token from a row of logits, which are changed unless `last` is false (copied to `scratch` first) or there
  // are scores, of this row, to note.
  void DrawFrom(std::span<float> logits, std::span<const int32_t> ids, const RowScores* scores, bool last,
                std::vector<float>* scratch);

  const int top_log_probs;
  const bool wants_scores;
  Sampler sampler;
  TextSink sink;
  std::vector<Draw> draws;  // of the step at hand: one, and one more for each drafted token that was drawn, too
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
  int continuation = -1;                  // -1: none, it is the prompt or a choice
  size_t next = 0;                        // the first position that has not run
  bool decoding = false;                  // the prompt is through and a choice goes on
  std::unique_ptr<Drafter> drafter = {};  // while decoding
  bool draft_open = false;                // tokens are being drafted, or wait to be verified
  uint64_t last_turn = 0;                 // when it last had a row, counted in lanes served

  bool is_continuation() const { return continuation >= 0; }
  // Whether its next row is one of the draft.
  bool drafts() const { return decoding && draft_open && drafter->WantsStep(); }
  bool uses_adapter() const { return drafts() ? drafter->plan().use_adapter : job->request.use_adapter; }
  // The last token of a continuation is scored, not run.
  size_t end() const { return is_continuation() ? ids.size() - 1 : ids.size(); }
  bool WantsLogits(size_t position) const;
};

}  // namespace gateskip
