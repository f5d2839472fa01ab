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

// U D h of every row, or U silu(D h), into step.gate_logits.
MatrixView RankLogits(const Transformer& model, const LowRankMap& map, Step& step) {
  const size_t n = step.rows.size();
  step.low_rank.Reserve(step.max_rows, map.down.rows);
  step.gate_logits.Reserve(step.max_rows, map.up.rows);
  const MatrixView inner = step.low_rank.View(n);
  kernels::PackRows(step.h, {}, false, &step.packed, model.pool);
  const kernels::Product down = {&map.down, inner};
  kernels::MatMul(step.packed, {&down, 1}, model.pool);
  if (model.adapter->config.gate_kind == GateKind::kMlp) {
    for (size_t r = 0; r < n; ++r) {
      for (float& v : inner.row_span(r)) v = v / (1.0F + std::exp(-v));
    }
  }
  kernels::PackRows(inner, {}, false, &step.packed, model.pool);
  const MatrixView logits = step.gate_logits.View(n);
  const kernels::Product up = {&map.up, logits};
  kernels::MatMul(step.packed, {&up, 1}, model.pool);
  return logits;
}

// importance s of every row, into step.importance; and where the product wants g and evaluating it has given it, g into
// step.gate_values.
void EvaluateGate(const Transformer& model, const BranchGate& gate, Step& step) {
  const size_t n = step.rows.size();
  const bool wants_values = model.adapter->config.gate_product != GateProduct::kNone;
  step.gate_evaluated = true;
  step.importance.resize(n);
  if (const std::span<const float> weight = gate.decision_weight(); !weight.empty()) {
    kernels::DotRows(step.h, weight, gate.decision_bias, step.importance, model.pool);
    for (float& s : step.importance) s = 1.0F / (1.0F + std::exp(-s));
    if (wants_values && gate.head.empty()) {
      step.gate_values.Reserve(step.max_rows, 1);
      std::ranges::copy(step.importance, step.gate_values.View(n).data);
    }
    return;
  }
  const MatrixView logits = RankLogits(model, gate.weights->low_rank, step);
  if (wants_values) step.gate_values.Reserve(step.max_rows, logits.cols);
  MatrixView values = step.gate_values.View(n);
  kernels::SigmoidMeanRows(logits, gate.bias, step.importance, wants_values ? &values : nullptr, model.pool);
}

// sigmoid(W h + c) of the kept rows, into step.gate_values.
MatrixView VectorGatesOfKept(const Transformer& model, const BranchGate& gate, Step& step) {
  const size_t n = step.kept.size();
  step.gate_logits.Reserve(step.max_rows, gate.bias.size());
  step.gate_values.Reserve(step.max_rows, gate.bias.size());
  kernels::PackRows(step.h, step.kept, true, &step.packed, model.pool);
  const MatrixView logits = step.gate_logits.View(n);
  const kernels::Product product = {&gate.weights->vector, logits};
  kernels::MatMul(step.packed, {&product, 1}, model.pool);
  MatrixView values = step.gate_values.View(n);
  step.importance.resize(step.rows.size());
  kernels::SigmoidMeanRows(logits, gate.bias, std::span(step.importance).first(n), &values, model.pool);
  step.gate_evaluated = false;  // the importances are gone
  return values;
}

// g of the kept rows, [kept, 1] or [kept, d], in step.gate_values. Of a gate that has decided they are there, of all
// rows, and move together.
MatrixView GatesOfKept(const Transformer& model, int branch, const BranchGate& gate, Step& step) {
  if (!gate.head.empty()) return VectorGatesOfKept(model, gate, step);
  if (!step.gate_evaluated) EvaluateGate(model, gate, step);
  const MatrixView values = step.gate_values.View(step.kept.size());
  for (size_t i = 0; i < step.kept.size(); ++i) {
    const auto r = static_cast<size_t>(step.kept[i]);
    if (i != r) std::copy_n(values.row(r), values.cols, values.row(i));
    if ((step.event(branch, r) & kDecided) == 0) step.event(branch, r) |= kGateValue;
  }
  return values;
}

// The branch's gate if its g enters at `product`, else nullptr.
const BranchGate* ProductGate(const Transformer& model, int branch, GateProduct product, const Step& step) {
  const BranchGate* gate = GateOf(model, branch, step);
  return gate != nullptr && gate->weights && model.adapter->config.gate_product == product ? gate : nullptr;
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
  const bool follows = gate != nullptr && !gate->weights;  // the decisions of the layer's attention branch
  const auto asks = [&](const StepRow& row) { return row.plan->NeedsImportance(branch, row.position); };
  const bool evaluate =
      gate != nullptr && !follows && (step.record_importance || std::any_of(step.rows.begin(), step.rows.end(), asks));
  step.gate_evaluated = false;
  if (evaluate) EvaluateGate(model, *gate, step);
  if (step.record_importance) {
    float* recorded = step.importances.data() + static_cast<size_t>(branch) * n;
    for (size_t r = 0; r < n; ++r) {
      recorded[r] = follows ? *(recorded + r - n) : evaluate ? step.importance[r] : 1.0F;
    }
  }
  step.kept.clear();
  step.skipped.clear();
  for (size_t r = 0; r < n; ++r) {
    const StepRow& row = step.rows[r];
    const bool by_gates = row.plan->kind == SkipPlan::Kind::kGates;
    uint8_t event = 0;
    if (follows && by_gates) {
      event = step.event(branch - 1, r) & (kRan | kDecided);
    } else {
      const bool decided = evaluate && asks(row);
      // A plan of gates finds no gate when the adapter is off: everything runs.
      const bool exited = !step.exits.empty() && step.exits[r].exited;
      const bool runs = !exited && ((by_gates && !decided) ||
                                    row.plan->Runs(branch, row.position, decided ? step.importance[r] : 1.0F));
      event = static_cast<uint8_t>((runs ? kRan : 0) | (decided ? kDecided : 0));
    }
    step.event(branch, r) = event;
    ((event & kRan) != 0 ? step.kept : step.skipped).push_back(static_cast<int32_t>(r));
  }
}

void ApplyKvRule(const Transformer& model, int layer, Step& step) {
  step.without_kv.clear();
  for (const int32_t r : step.skipped) {
    if (!step.rows[static_cast<size_t>(r)].plan->transient) step.without_kv.push_back(r);
  }
  if (step.without_kv.empty()) return;
  const KvRule rule = step.use_adapter && model.adapter ? model.adapter->config.kv_rule : KvRule::kCompute;
  const auto l = static_cast<size_t>(layer);
  const int below = rule == KvRule::kCopy ? KvCopySource(model.config, layer) : -1;
  if (rule == KvRule::kCompute || (rule == KvRule::kCopy && below < 0)) {
    ProjectAndStoreKv(model, layer, step.without_kv, step);
    for (int32_t r : step.without_kv) {
      step.event(BranchIndex(layer, BranchKind::kAttention), static_cast<size_t>(r)) |= kKvOnly;
    }
    return;
  }
  for (int32_t r : step.without_kv) {
    const StepRow& row = step.rows[static_cast<size_t>(r)];
    const uint16_t source =
        rule == KvRule::kDrop ? kernels::kKvDropped : row.sequence->Source(static_cast<size_t>(below), row.position);
    row.sequence->SetSource(l, row.position, source);
  }
}

void GateInput(const Transformer& model, int branch, Step& step) {
  const BranchGate* gate = ProductGate(model, branch, GateProduct::kInput, step);
  if (gate == nullptr) return;
  const MatrixView values = GatesOfKept(model, branch, *gate, step);
  for (size_t i = 0; i < step.kept.size(); ++i) {
    const std::span<float> h = step.h.row_span(static_cast<size_t>(step.kept[i]));
    const float* g = values.row(i);
    for (size_t j = 0; j < h.size(); ++j) h[j] *= g[values.cols == 1 ? 0 : j];
  }
}

void GatedScatterAdd(const Transformer& model, int branch, Step& step) {
  if (!step.kept.empty()) {
    const bool all = step.kept.size() == step.rows.size();
    const std::span<const int32_t> rows = all ? std::span<const int32_t>{} : std::span<const int32_t>(step.kept);
    const ConstMatrixView out = step.branch_out.View(step.kept.size());
    if (const BranchGate* gate = ProductGate(model, branch, GateProduct::kOutput, step)) {
      const ConstMatrixView values = GatesOfKept(model, branch, *gate, step);
      kernels::ScatterAdd(out, rows, &values, step.x, model.pool);
    } else {
      kernels::ScatterAdd(out, rows, nullptr, step.x, model.pool);
    }
  }
  const BranchGate* gate = GateOf(model, branch, step);
  if (!step.skipped.empty() && gate != nullptr && !gate->skip_bias.empty()) AddSkipPath(model, *gate, step);
}

}  // namespace gateskip
