// SPDX-License-Identifier: Apache-2.0
// What the scheduler takes and gives back. Plain data: a server needs nothing else of the runtime.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "gate/skip_plan.h"
#include "gateskip/engine.h"

namespace gateskip {

struct TokenCandidate {
  int32_t id = 0;
  float log_prob = 0;

  bool operator==(const TokenCandidate&) const = default;
};

// Natural logarithms of the model's own distribution: before penalties, bias, temperature and cuts.
struct ScoredTokens {
  std::vector<float> log_probs;                  // of each token given all before it
  std::vector<uint8_t> is_greedy;                // whether it is the argmax
  std::vector<std::vector<TokenCandidate>> top;  // the likeliest ones in its place, best first, if asked for
};

// One generated token, or the end of a choice.
struct TokenEvent {
  int choice = 0;                           // 0 .. num_choices - 1
  int32_t id = -1;                          // -1: the end
  std::string text = {};                    // whole characters that became certain with it; empty while they may yet be
                                            // half a character or the beginning of a stop string
  float log_prob = 0;                       // if want_log_probs
  std::vector<TokenCandidate> top = {};     // if top_log_probs
  float skipped_share = 0;                  // of the branches, by the row that the token was drawn from
  std::optional<FinishReason> finish = {};  // set at the end, and only there
};

// A prompt, and what is wanted of it: its own log-probabilities, those of continuations, generations; any of them.
struct SequenceRequest {
  std::vector<int32_t> prompt;                           // at least one token
  bool score_prompt = false;                             // all of the prompt runs then, whatever the prefix cache holds
  std::vector<std::vector<int32_t>> continuations = {};  // none empty; each follows the prompt, which runs once for all
  int max_tokens = 0;                                    // to generate
  SamplingOptions sampling = {};
  std::vector<std::string> stop = {};
  bool ignore_eos = false;
  SkipPlanPtr prefill = DensePlan();  // of the prompt and of continuations
  SkipPlanPtr decode = DensePlan();
  bool use_adapter = true;
  SpeculationOptions speculation = {};  // changes no result but ChoiceResult::speculation

  int num_choices = 1;          // [1, 128] generations; choice i draws with seed + i, as a request of its own would
  bool want_log_probs = false;  // of generated tokens
  int top_log_probs = 0;        // [0, 20], of generated tokens and, with score_prompt, of the prompt
  std::string fairness_key = {};
  std::optional<std::chrono::steady_clock::time_point> deadline = {};  // still queued then: it does not run
  std::function<void(TokenEvent&&)> on_token = {};                     // called by Step
};

struct ChoiceResult {
  std::vector<int32_t> token_ids;  // generated, without the one that ended it
  std::string text;
  FinishReason finish_reason = FinishReason::kCancelled;  // until it has come to an end of its own
  ScoredTokens tokens;                                    // [token_ids], if want_log_probs or top_log_probs
  SkipCounts decode_counts;                               // of the rows that the tokens were drawn from
  SpeculationReport speculation;
};

struct SequenceResult {
  // kCancelled or kDeadline: the request, and the rest of this, is not whole. Else the first choice's.
  FinishReason finish_reason = FinishReason::kLength;
  std::optional<Error> error = {};          // why it was cancelled, if nobody asked: damaged weights, no memory
  ScoredTokens prompt;                      // [prompt - 1], if score_prompt
  std::vector<ScoredTokens> continuations;  // each as long as its continuation
  std::vector<ChoiceResult> choices;        // [num_choices] if max_tokens > 0, else none
  SkipCounts prefill_counts;                // rows of the prompt that were run, once, and of the continuations
  size_t prompt_tokens = 0;
  size_t cached_tokens = 0;    // of the prompt, taken from the prefix cache: not run, not counted
  double queue_seconds = 0;    // until it was admitted
  double prefill_seconds = 0;  // from there until the prompt was through
  double decode_seconds = 0;   // from there to the end
};

}  // namespace gateskip
