// SPDX-License-Identifier: Apache-2.0
// Continuous batching: many sequences share forward steps, each under plans of its own. A step takes one row of every
// sequence that decodes, then rows of prompts and continuations. By law L4 nobody's results depend on who else is
// there, by law L7 nor on what the prefix cache holds.
//
// A request is queued, admitted when its worst case fits into the KV pages (so that nothing that runs ever lacks one),
// prefilled in chunks, decoded. Admission and prompt rows go round the fairness keys; within a key the first come is
// the first served.
//
// Not here: where requests come from (src/eval, a server), and what a budget means (gate/skip_plan.h).
#pragma once

#include <memory>

#include "sched/request.h"

namespace gateskip {

struct LoadedModel;

struct SchedulerOptions {
  // Of a step; fewer where rows cost more (row_deal.h). A step is not interrupted: this bounds how soon a Cancel can
  // come between. 128 rows of a 135M model take about 90 ms on two cores.
  int max_rows = 512;
  int max_sequences = 64;     // that run at the same time
  int max_positions = 32768;  // in the KV cache, prefix cache included, in whole pages
  // A request whose worst case exceeds max_positions: refused by Add, or run when nothing else does, with more.
  bool refuse_oversized = false;
  // Prompt rows of a step while something decodes: so many, and one for each row that decodes; a row far into its
  // sequence counts for more (row_deal.h). With as many as take the time of reading the weights once, a long prompt
  // at most doubles the time to the others' next token. Default: SmolLM2-135M on two AVX-512 cores.
  int max_prompt_rows = 3;
  // Keep the K/V of prompts for later ones that begin alike, as long as no request needs the pages.
  bool prefix_cache = false;
};

struct SchedulerStats {
  size_t waiting = 0, running = 0;                // requests
  size_t decode_rows = 0, prompt_rows = 0;        // of the last step
  size_t pages_in_use = 0, pages_total = 0;       // in use: by running requests or the prefix cache
  size_t cached_pages = 0;                        // in the prefix cache; some may be in use by running requests too
  size_t idle_cached_pages = 0;                   // of those, in use by none: taken back when needed
  uint64_t steps = 0;                             // forward passes; this and all below since the start
  uint64_t prompts = 0, prompts_cached = 0;       // begun | of those, that found a beginning in the prefix cache
  uint64_t prompt_tokens = 0, cached_tokens = 0;  // run, continuations included | taken from the prefix cache
  uint64_t generated_tokens = 0;
  uint64_t finished = 0, cancelled = 0, expired = 0;  // requests; cancelled counts those that failed, too
  uint64_t attention_run = 0, attention_skipped = 0, mlp_run = 0, mlp_skipped = 0;  // branches
};

// Used from one thread at a time.
class Scheduler {
 public:
  // `model` outlives it. Throws Error(kInvalidArgument) for options below 1.
  Scheduler(const LoadedModel& model, const SchedulerOptions& options);
  // Requests that have not ended are forgotten; their `done` is not called.
  ~Scheduler();

  // Called with every request that was added, once: by the Step that finishes it, after its last token, or by Cancel.
  // Callbacks may call Add and Cancel but not Step. What one throws leaves Step; the others are called by the next.
  using Done = std::function<void(SequenceResult&&)>;

  // Queues a request and returns its id. Throws Error(kInvalidArgument) for an empty prompt or continuation, a bad
  // token id, options out of range; kLimitExceeded for what is longer than the model's context or cannot ever run.
  uint64_t Add(SequenceRequest request, Done done);

  // Ends a request: queued, in its prompt, or decoding. Its pages are free when this returns, its `done` is called with
  // FinishReason::kCancelled and what there was, its on_token no more. False if there is no such request (any more).
  bool Cancel(uint64_t id);

  // One forward pass. False when there is nothing left to do. A request that the model gives no usable numbers for, or
  // that no memory is left for, ends with an error of its own; the others go on.
  bool Step();

  size_t waiting() const;  // requests
  SchedulerStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gateskip
