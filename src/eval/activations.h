// SPDX-License-Identifier: Apache-2.0
// How large the inputs of a model's matrices are on a text: what a quantiser weighs errors by (the squares, as
// llama.cpp's importance matrices) and a pruner neurons and heads (the norms, as Wanda, arXiv 2306.11695).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "eval/token_windows.h"
#include "runtime/loaded_model.h"

namespace gateskip {

// The mean of x^2 over the text's tokens, per input column.
struct ActivationSquares {
  struct Layer {
    std::vector<float> attention;  // [d], of attn_q, attn_k and attn_v
    std::vector<float> attended;   // [query_size], of attn_output
    std::vector<float> mlp;        // [d], of ffn_gate and ffn_up
    std::vector<float> activated;  // [ffn], of ffn_down
  };
  std::vector<Layer> layers;
  std::vector<float> head;  // [d]
  size_t tokens = 0;

  // Of the matrix with this canonical name; empty for a matrix that is looked up, not multiplied. `tied`: the embedding
  // is the head, too.
  const std::vector<float>& Of(const std::string& tensor, bool tied) const;
};

// Runs the windows under a plan that is the same for all tokens, with the model's adapter if it has one. Branches that
// it skips have no squares. `progress` gets tokens done and in all.
ActivationSquares MeasureActivations(const LoadedModel& model, const TokenWindows& windows, const SkipPlan& plan,
                                     const std::function<void(size_t done, size_t total)>& progress);

}  // namespace gateskip
