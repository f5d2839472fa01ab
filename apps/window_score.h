// SPDX-License-Identifier: Apache-2.0
// Perplexity of a text over non-overlapping windows, each with BOS in front if the model wants it. Every token is
// scored once, given the tokens before it in its window; a window's first token is scored only after a BOS.
#pragma once

#include <functional>
#include <vector>

#include "gateskip/engine.h"

namespace gateskip::cli {

struct TextScore {
  size_t tokens = 0;  // scored
  size_t windows = 0;
  double bytes = 0;      // of the scored tokens' text
  double nll = 0;        // mean, natural log
  double nll_error = 0;  // its standard error, sd / sqrt(tokens)
  double perplexity = 0;
  double perplexity_error = 0;  // perplexity * nll_error
  double bits_per_byte = 0;
  double seconds = 0;
  SavingReport saving;
};

// `window` tokens, BOS included, at least 2. Throws Error(kInvalidArgument) if the text is too short to score.
TextScore ScoreText(Engine& engine, std::string_view text, const BudgetOptions& budget, int window, size_t max_tokens,
                    const std::function<void(size_t done, size_t total)>& progress);

}  // namespace gateskip::cli
