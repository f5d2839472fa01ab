// SPDX-License-Identifier: Apache-2.0
// Continuous batching: many sequences share forward steps, each under plans of its own. A step takes one row of every
// sequence that decodes, then prompts and continuations in the order they came, until it is full. By law L4 nobody's
// results depend on who else is there.
//
// Not here: where requests come from (src/eval, a server), and what a budget means (gate/skip_plan.h).
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "gateskip/engine.h"
#include "model/step.h"
#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"

namespace gateskip {

struct SchedulerOptions {
  int max_rows = 512;         // of a step
  int max_sequences = 64;     // that run at the same time
  int max_positions = 32768;  // in the KV cache; one request alone may need more
  ComputeType compute = ComputeType::kFast;
};

// A prompt, and what is wanted of it: its own log-probabilities, those of continuations, a generation; any of them.
struct SequenceRequest {
  std::vector<int32_t> prompt;  // at least one token
  bool score_prompt = false;
  std::vector<std::vector<int32_t>> continuations = {};  // none empty; each follows the prompt, which runs once for all
  int max_tokens = 0;                                    // to generate
  SamplingOptions sampling = {};
  std::vector<std::string> stop = {};
  bool ignore_eos = false;
  SkipPlanPtr prefill = DensePlan();  // of the prompt and of continuations
  SkipPlanPtr decode = DensePlan();
  bool use_adapter = true;
};

struct ScoredTokens {
  std::vector<float> log_probs;    // natural log, of each token given all before it
  std::vector<uint8_t> is_greedy;  // whether it is the argmax
};

struct SequenceResult {
  ScoredTokens prompt;                      // [prompt - 1], if asked for
  std::vector<ScoredTokens> continuations;  // each as long as its continuation
  std::vector<int32_t> token_ids;           // generated, without the one that ended it
  std::string text;
  FinishReason finish_reason = FinishReason::kLength;
  SkipCounts prefill_counts;  // the prompt once, and the continuations
  SkipCounts decode_counts;
};

class Scheduler {
 public:
  // `model` outlives it.
  Scheduler(const LoadedModel& model, const SchedulerOptions& options);
  ~Scheduler();

  using Done = std::function<void(SequenceResult&&)>;
  // Queues a request; `done` is called by the Step that finishes it. Throws Error(kInvalidArgument) for an empty prompt
  // or continuation, a bad token id, bad sampling options; kLimitExceeded for what is longer than the model's context.
  void Add(SequenceRequest request, Done done);
  // One forward step. False when there is nothing left to do.
  bool Step();

  size_t waiting() const { return queue_.size(); }
  size_t running() const { return lanes_.size(); }
  size_t pages_in_use() const { return kv_.bytes() / kv_.page_bytes() - kv_.free_pages(); }

 private:
  struct Job;
  struct Lane;
  struct WantedRow;

  void Check(const SequenceRequest& request) const;
  void Admit();
  void FillRows();
  void TakeLogits(size_t first, ConstMatrixView logits);
  void ScoreRow(const WantedRow& row, std::span<const float> logits) const;
  void AdvanceLanes();
  void SpawnContinuations(Lane& prompt);
  // Samples from the last row of a prompt or of a generation.
  void Continue(Lane& lane, std::span<float> logits);
  void EndLane(std::list<Lane>::iterator lane);

  const LoadedModel& model_;
  const SchedulerOptions options_;
  KvCache kv_;
  gateskip::Step step_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::list<Lane> lanes_;
  size_t positions_in_use_ = 0;  // by the worst case of every running job
  std::vector<WantedRow> wanted_;
};

}  // namespace gateskip
