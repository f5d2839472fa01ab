// SPDX-License-Identifier: Apache-2.0
// Text samples in the training loop: greedy continuations at a budget, by the training engine itself. Slow (every token
// runs the whole sequence again) and meant for a few dozen tokens; `gateskip generate` is the fast way.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "train/gated_model.h"

namespace gateskip::train {

// Continues `prompt` by up to `count` tokens under decisions for one sequence: dense, one threshold or one mask.
std::string GreedyContinuation(GatedModel& model, const Tokenizer& tokenizer, const std::string& prompt, int count,
                               int max_length, const Decisions& decisions);

}  // namespace gateskip::train
