// SPDX-License-Identifier: Apache-2.0
// How far a model's predictions are from those of the one it was made of, token by token over a text.
#pragma once

#include <cstddef>
#include <functional>

#include "eval/token_windows.h"
#include "runtime/loaded_model.h"

namespace gateskip {

struct ModelDifference {
  size_t tokens = 0;         // predicted
  double nll_reference = 0;  // mean, natural log
  double nll = 0;
  double kl = 0;        // mean over tokens of sum_v p log(p / q), p the reference's distribution; nats
  double kl_error = 0;  // its standard error, sd / sqrt(tokens)
  double same_top = 0;  // share of tokens whose likeliest next token is the same
};

// Both models plain and dense, as they were loaded (ComputeType::kF32 shows the weights alone). Every token but a
// window's first is predicted. Throws Error(kMismatch) for different vocabularies. `progress` gets tokens done and in
// all.
ModelDifference CompareModels(const LoadedModel& reference, const LoadedModel& model, const TokenWindows& windows,
                              const std::function<void(size_t done, size_t total)>& progress);

}  // namespace gateskip
