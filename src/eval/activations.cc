// SPDX-License-Identifier: Apache-2.0
#include "eval/activations.h"

#include <algorithm>

#include "base/check.h"
#include "eval/window_runner.h"
#include "gate/skip_plan.h"
#include "kernels/kernels.h"
#include "model/architecture.h"
#include "runtime/kv_cache.h"

namespace gateskip {
namespace {

// Sums in f64: the squares of a few thousand tokens differ by orders of magnitude.
struct Sums {
  std::vector<double> columns;

  void Add(ConstMatrixView rows) {
    columns.resize(rows.cols);
    for (size_t r = 0; r < rows.rows; ++r) {
      for (size_t c = 0; c < rows.cols; ++c) {
        const auto x = static_cast<double>(rows.row(r)[c]);
        columns[c] += x * x;
      }
    }
  }
  std::vector<float> Mean(size_t tokens) const {
    std::vector<float> mean(columns.size());
    std::ranges::transform(columns, mean.begin(),
                           [&](double sum) { return static_cast<float>(sum / static_cast<double>(tokens)); });
    return mean;
  }
};

}  // namespace

const std::vector<float>& ActivationSquares::Of(const std::string& tensor, bool tied) const {
  static const std::vector<float> kNone;
  if (tensor == "output.weight" || (tied && tensor == "token_embd.weight")) return head;
  const auto block = ParseBlockTensor(tensor);
  if (!block || static_cast<size_t>(block->layer) >= layers.size()) return kNone;
  const Layer& layer = layers[static_cast<size_t>(block->layer)];
  if (block->rest == "attn_output.weight") return layer.attended;
  if (block->rest == "ffn_down.weight") return layer.activated;
  if (block->rest == "ffn_gate.weight" || block->rest == "ffn_up.weight") return layer.mlp;
  const bool qkv = block->rest == "attn_q.weight" || block->rest == "attn_k.weight" || block->rest == "attn_v.weight";
  return qkv ? layer.attention : kNone;
}

ActivationSquares MeasureActivations(const LoadedModel& model, const TokenWindows& windows, const SkipPlan& plan,
                                     const std::function<void(size_t done, size_t total)>& progress) {
  GS_CHECK(!windows.empty());
  const ModelConfig& config = model.transformer->config;
  size_t longest = 0;
  size_t total = 0;
  for (const std::vector<int32_t>& window : windows) {
    longest = std::max(longest, window.size());
    total += window.size();
  }
  Step step(config, kernels::KvType::kF16, longest, 1);
  KvCache kv(step.kv_shape, config.num_layers);
  constexpr size_t kInputs = 4;
  std::vector<Sums> sums(static_cast<size_t>(config.num_layers) * kInputs);
  step.on_matrix_input = [&](int layer, MatrixInput which, ConstMatrixView rows) {
    sums[static_cast<size_t>(layer) * kInputs + static_cast<size_t>(which)].Add(rows);
  };
  Sums head;
  Matrix normed;
  normed.Reserve(longest, static_cast<size_t>(config.hidden_size));
  step.on_hidden_state = [&](int layers_done, ConstMatrixView x) {
    if (layers_done < config.num_layers) return;
    const MatrixView out = normed.View(x.rows);
    kernels::RmsNorm(x, model.transformer->weights.output_norm, config.norm_eps, out, *model.pool);
    head.Add(out);
  };
  ActivationSquares squares;
  for (const std::vector<int32_t>& window : windows) {
    ForwardWindow(model, window, plan, /*wants_logits=*/false, kv, step);
    squares.tokens += window.size();
    if (progress) progress(squares.tokens, total);
  }
  const auto mean = [&](size_t layer, MatrixInput which) {
    return sums[layer * kInputs + static_cast<size_t>(which)].Mean(squares.tokens);
  };
  for (size_t l = 0; l < static_cast<size_t>(config.num_layers); ++l) {
    squares.layers.push_back({.attention = mean(l, MatrixInput::kAttention),
                              .attended = mean(l, MatrixInput::kAttended),
                              .mlp = mean(l, MatrixInput::kMlp),
                              .activated = mean(l, MatrixInput::kActivated)});
  }
  squares.head = head.Mean(squares.tokens);
  return squares;
}

}  // namespace gateskip
