// SPDX-License-Identifier: Apache-2.0
// The skip decision, the KV rule and the gated scatter-add: everything GateSkip (arXiv 2510.13876) adds to a
// decoder layer.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "gate/branch.h"
#include "model/transformer.h"

namespace gateskip {
namespace {

// importance s = mean(g) of every row, into step.importance.
void EvaluateGate(const Transformer& model, const BranchGate& gate, Step& step) {
  const size_t n = step.rows.size();
  step.importance.resize(n);
  if (!gate.decision_weight.empty()) {
    kernels::DotRows(step.h, gate.decision_weight, gate.decision_bias, step.importance, model.pool);
    for (float& s : step.importance) s = 1.0F / (1.0F + std::exp(-s));
    return;
  }
  const size_t d = gate.bias.size();
  step.low_rank.Reserve(step.max_rows, gate.low_rank.down.rows);
  step.gate_logits.Reserve(step.max_rows, d);
  const MatrixView inner = step.low_rank.View(n);
  kernels::PackRows(step.h, {}, false, &step.packed, model.pool);
  const kernels::Product down = {&gate.low_rank.down, inner};
  kernels::MatMul(step.packed, {&down, 1}, model.pool);
  kernels::PackRows(inner, {}, false, &step.packed, model.pool);
  const kernels::Product up = {&gate.low_rank.up, step.gate_logits.View(n)};
  kernels::MatMul(step.packed, {&up, 1}, model.pool);
  kernels::SigmoidMeanRows(step.gate_logits.View(n), gate.bias, step.importance, nullptr, model.pool);
}

// g of the kept rows for gates that multiply: [kept, 1] (scalar) or [kept, d], in step.gate_values.
ConstMatrixView OutputGates(const Transformer& model, const BranchGate& gate, Step& step) {
  const size_t n = step.kept.size();
  if (model.adapter->config.gate_kind == GateKind::kScalar) {
    EvaluateGate(model, gate, step);
    step.gate_values.Reserve(step.max_rows, 1);
    const MatrixView values = step.gate_values.View(n);
    for (size_t i = 0; i < n; ++i) *values.row(i) = step.importance[static_cast<size_t>(step.kept[i])];
    return values;
  }
  const size_t d = gate.bias.size();
  step.gate_logits.Reserve(step.max_rows, d);
  step.gate_values.Reserve(step.max_rows, d);
  const MatrixView logits = step.gate_logits.View(n);
  kernels::PackRows(step.h, step.kept, true, &step.packed, model.pool);
  if (model.adapter->config.gate_kind == GateKind::kVector) {
    const kernels::Product product = {&gate.vector, logits};
    kernels::MatMul(step.packed, {&product, 1}, model.pool);
  } else {
    step.low_rank.Reserve(step.max_rows, gate.low_rank.down.rows);
    const MatrixView inner = step.low_rank.View(n);
    const kernels::Product down = {&gate.low_rank.down, inner};
    kernels::MatMul(step.packed, {&down, 1}, model.pool);
    kernels::PackRows(inner, {}, false, &step.packed, model.pool);
    const kernels::Product up = {&gate.low_rank.up, logits};
    kernels::MatMul(step.packed, {&up, 1}, model.pool);
  }
  MatrixView values = step.gate_values.View(n);
  step.importance.resize(std::max(step.importance.size(), n));
  kernels::SigmoidMeanRows(logits, gate.bias, std::span(step.importance).first(n), &values, model.pool);
  return values;
}

// x[skipped] += bias + up (down h).
void AddSkipPath(const Transformer& model, const BranchGate& gate, Step& step) {
  const size_t n = step.skipped.size();
  const MatrixView out = step.branch_out.View(n);
  if (gate.skip_map) {
    step.low_rank.Reserve(step.max_rows, gate.skip_map->down.rows);
    const MatrixView inner = step.low_rank.View(n);
    kernels::PackRows(step.h, step.skipped, true, &step.packed, model.pool);
    const kernels::Product down = {&gate.skip_map->down, inner};
    kernels::MatMul(step.packed, {&down, 1}, model.pool);
    kernels::PackRows(inner, {}, false, &step.packed, model.pool);
    const kernels::Product up = {&gate.skip_map->up, out};
    kernels::MatMul(step.packed, {&up, 1}, model.pool);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < out.cols; ++j) out.row(i)[j] += gate.skip_bias[j];
    }
  } else {
    for (size_t i = 0; i < n; ++i) std::copy(gate.skip_bias.begin(), gate.skip_bias.end(), out.row(i));
  }
  kernels::ScatterAdd(out, step.skipped, nullptr, step.x, model.pool);
}

}  // namespace

const BranchGate* GateOf(const Transformer& model, int branch, const Step& step) {
  if (!step.use_adapter || !model.adapter) return nullptr;
  const BranchGate& gate = model.adapter->gates[static_cast<size_t>(branch)];
  return gate.gated ? &gate : nullptr;
}

void Decide(const Transformer& model, int branch, Step& step) {
  const size_t n = step.rows.size();
  const BranchGate* gate = GateOf(model, branch, step);
  const auto asks = [&](const StepRow& row) { return row.plan->NeedsImportance(branch, row.position); };
  const bool evaluate =
      gate != nullptr && (step.record_importance || std::any_of(step.rows.begin(), step.rows.end(), asks));
  if (evaluate) EvaluateGate(model, *gate, step);
  if (step.record_importance) {
    for (size_t r = 0; r < n; ++r) {
      step.importances[static_cast<size_t>(branch) * n + r] = evaluate ? step.importance[r] : 1.0F;
    }
  }
  step.kept.clear();
  step.skipped.clear();
  for (size_t r = 0; r < n; ++r) {
    const StepRow& row = step.rows[r];
    const bool decided = evaluate && asks(row);
    // A plan of gates finds no gate when the adapter is off: everything runs.
    const bool runs = row.plan->kind == SkipPlan::Kind::kGates && !decided
                          ? true
                          : row.plan->Runs(branch, row.position, decided ? step.importance[r] : 1.0F);
    (runs ? step.kept : step.skipped).push_back(static_cast<int32_t>(r));
    step.event(branch, r) = static_cast<uint8_t>((runs ? kRan : 0) | (decided ? kDecided : 0));
  }
}

void ApplyKvRule(const Transformer& model, int layer, Step& step) {
  if (step.skipped.empty()) return;
  const KvRule rule = step.use_adapter && model.adapter ? model.adapter->config.kv_rule : KvRule::kCompute;
  const auto l = static_cast<size_t>(layer);
  const int below = rule == KvRule::kCopy ? KvCopySource(model.config, layer) : -1;
  if (rule == KvRule::kCompute || (rule == KvRule::kCopy && below < 0)) {
    ProjectAndStoreKv(model, layer, step.skipped, step);
    for (int32_t r : step.skipped) {
      step.event(BranchIndex(layer, BranchKind::kAttention), static_cast<size_t>(r)) |= kKvOnly;
    }
    return;
  }
  for (int32_t r : step.skipped) {
    const StepRow& row = step.rows[static_cast<size_t>(r)];
    const uint16_t source =
        rule == KvRule::kDrop ? kernels::kKvDropped : row.sequence->Source(static_cast<size_t>(below), row.position);
    row.sequence->SetSource(l, row.position, source);
  }
}

void GatedScatterAdd(const Transformer& model, int branch, Step& step) {
  const BranchGate* gate = GateOf(model, branch, step);
  if (!step.kept.empty()) {
    const bool all = step.kept.size() == step.rows.size();
    const std::span<const int32_t> rows = all ? std::span<const int32_t>{} : std::span<const int32_t>(step.kept);
    if (gate != nullptr && model.adapter->config.multiply_output) {
      const ConstMatrixView gates = OutputGates(model, *gate, step);
      kernels::ScatterAdd(step.branch_out.View(step.kept.size()), rows, &gates, step.x, model.pool);
    } else {
      kernels::ScatterAdd(step.branch_out.View(step.kept.size()), rows, nullptr, step.x, model.pool);
    }
  }
  if (!step.skipped.empty() && gate != nullptr && !gate->skip_bias.empty()) AddSkipPath(model, *gate, step);
}

}  // namespace gateskip
