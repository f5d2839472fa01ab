// SPDX-License-Identifier: Apache-2.0
// Text samples in the training loop: greedy continuations at a budget, by the training engine itself. Slow (every token
// runs the whole sequence again) and meant for a few dozen tokens; `gateskip generate` is the fast way.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "train/gated_model.h"

namespace gateskip::train {

// Continues `prompt` by up to `count` tokens, with the decisions of one threshold (-infinity: dense).
std::string GreedyContinuation(GatedModel& model, const Tokenizer& tokenizer, const std::string& prompt, int count,
                               int max_length, double threshold);

}  // namespace gateskip::train
