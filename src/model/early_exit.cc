// SPDX-License-Identifier: Apache-2.0
// Early exit, the rivals of token-wise skipping: when a row leaves, and how it knows. The signals are those of CALM
// (arXiv 2207.07061: hidden-state saturation and softmax confidence, with a constant threshold where CALM's may decay),
// DeeBERT (2004.12993: entropy) and PABEE (2006.04152: patience). The last two have a classifier per layer; here, as in
// LayerSkip (2404.16710), the model's own final norm and head read every layer.
//
// A row depends on itself only, so laws L4 to L6 hold as for every plan.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/transformer.h"

namespace gateskip {
namespace {

bool Asks(const StepRow& row, int layer) {
  if (row.plan->kind != SkipPlan::Kind::kExit || row.position < row.plan->always_run_positions) return false;
  const ExitRule& rule = row.plan->exit;
  return layer >= rule.first_layer && (layer - rule.first_layer) % rule.every == 0;
}

// The state a hidden-state rule compares with: one check before its first.
bool Remembers(const StepRow& row, int layer) {
  return row.plan->kind == SkipPlan::Kind::kExit && row.plan->exit.signal == ExitSignal::kHiddenState &&
         (layer + row.plan->exit.every - row.plan->exit.first_layer) % row.plan->exit.every == 0;
}

float Cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return aa > 0 && bb > 0 ? static_cast<float>(ab / std::sqrt(aa * bb)) : 0.0F;
}

// p(best) - p(second).
float Confidence(std::span<const float> logits, size_t best) {
  float second = -INFINITY;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i != best) second = std::max(second, logits[i]);
  }
  const float log_sum = kernels::LogSumExp(logits);
  return std::exp(logits[best] - log_sum) - std::exp(second - log_sum);
}

float Entropy(std::span<const float> logits) {
  const float log_sum = kernels::LogSumExp(logits);
  double entropy = 0;
  for (const float logit : logits) {
    const double log_p = static_cast<double>(logit) - log_sum;
    entropy -= std::exp(log_p) * log_p;
  }
  return static_cast<float>(entropy);
}

// By the head's logits of a row at this layer.
bool IsSure(const ExitRule& rule, std::span<const float> logits, ExitState* state) {
  const size_t best = kernels::ArgMax(logits);
  switch (rule.signal) {
    case ExitSignal::kHiddenState:
      break;
    case ExitSignal::kConfidence:
      return Confidence(logits, best) >= rule.threshold;
    case ExitSignal::kEntropy:
      return Entropy(logits) <= rule.threshold;
    case ExitSignal::kPatience:
      state->same = static_cast<int32_t>(best) == state->best ? state->same + 1 : 0;
      state->best = static_cast<int32_t>(best);
      return static_cast<float>(state->same) >= rule.threshold;
  }
  return false;
}

void CheckByHead(const Transformer& model, const RowList& rows, Step& step) {
  for (size_t first = 0; first < rows.size(); first += step.max_logit_rows) {
    const auto tile = std::span(rows).subspan(first, std::min(step.max_logit_rows, rows.size() - first));
    HeadLogits(model, tile, step);
    model.pool.ParallelFor(tile.size(), 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) {
        const auto r = static_cast<size_t>(tile[i]);
        ExitState& state = step.exits[r];
        ++state.head_checks;
        state.exited = IsSure(step.rows[r].plan->exit, step.logits.row_span(i), &state);
      }
    });
  }
}

}  // namespace

void StartExits(Step& step) {
  step.exits.clear();
  const auto may_exit = [](const StepRow& row) { return row.plan->kind == SkipPlan::Kind::kExit; };
  if (!std::ranges::any_of(step.rows, may_exit)) return;
  step.exits.resize(step.rows.size());
  step.exit_state.Reserve(step.max_rows, step.x.cols);
}

void CheckExits(const Transformer& model, int layer, Step& step) {
  if (step.exits.empty()) return;
  const MatrixView before = step.exit_state.View(step.rows.size());
  RowList by_head;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const StepRow& row = step.rows[r];
    ExitState& state = step.exits[r];
    if (state.exited) continue;
    if (Asks(row, layer)) {
      if (row.plan->exit.signal == ExitSignal::kHiddenState) {
        state.exited = Cosine(step.x.row_span(r), before.row_span(r)) >= row.plan->exit.threshold;
      } else {
        by_head.push_back(static_cast<int32_t>(r));
      }
    }
    if (Remembers(row, layer)) std::ranges::copy(step.x.row_span(r), before.row(r));
  }
  CheckByHead(model, by_head, step);
}

}  // namespace gateskip
