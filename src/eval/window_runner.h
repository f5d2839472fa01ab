// SPDX-License-Identifier: Apache-2.0
// One window of text after another, with everything that a step records of its rows at hand.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"

namespace gateskip {

// Runs `ids` under `plan` from an empty cache as one step of `step`, whose hooks and options are the caller's, and
// gives the cache back. `wants_logits`: of all tokens but the last. Throws Error(kLimitExceeded) when memory runs out.
void ForwardWindow(const LoadedModel& model, std::span<const int32_t> ids, const SkipPlan& plan, bool wants_logits,
                   KvCache& kv, Step& step);

class WindowRunner {
 public:
  // `model` outlives it. Windows of at most `max_window` tokens.
  WindowRunner(const LoadedModel& model, int max_window);

  // Runs `ids` with the model's adapter (if it has one), from an empty cache, as one step that records importances.
  // With `log_probs`, [ids.size() - 1] gets the natural logarithm of each token's probability given those before it.
  // The result is valid until the next call. Throws Error(kLimitExceeded) when memory runs out.
  const Step& Run(std::span<const int32_t> ids, const SkipPlan& plan, std::vector<float>* log_probs = nullptr);

 private:
  const LoadedModel& model_;
  Step step_;
  KvCache kv_;
};

}  // namespace gateskip
