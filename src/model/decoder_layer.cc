// SPDX-License-Identifier: Apache-2.0
// The layer forward, in the paper's order: norm, decide, choose rows, gate the input, gather, branch, gated
// scatter-add. A branch without kept rows is not executed and its weights are not read.
#include <algorithm>
#include <array>

#include "gate/branch.h"
#include "model/transformer.h"

namespace gateskip {
namespace {

using kernels::Product;

const LayerDeltas* DeltasOf(const Transformer& model, int layer, const Step& step) {
  return step.use_adapter && model.adapter && !model.adapter->deltas.empty()
             ? &model.adapter->deltas[static_cast<size_t>(layer)]
             : nullptr;
}

// One projection of a branch: W x, plus the adapter's delta for it if there is one.
struct Projection {
  const kernels::PackedMatrix* weight;
  std::optional<LowRankMap> LayerDeltas::*delta;
  MatrixView out;
};

// out = W x + scale * B (A x) for projections of step.packed. All W x and A x run in one parallel region.
void Project(const Transformer& model, int layer, std::span<const Projection> projections, Step& step) {
  constexpr size_t kMaxProjections = 3;
  const size_t n = step.packed.num_rows;
  const LayerDeltas* deltas = DeltasOf(model, layer, step);
  std::array<Product, 2 * kMaxProjections> products;
  std::array<MatrixView, kMaxProjections> inner;  // A x, side by side in step.low_rank
  size_t count = 0;
  for (const Projection& p : projections) products[count++] = {p.weight, p.out};
  if (deltas != nullptr) {
    size_t ranks = 0;
    for (const Projection& p : projections) ranks += (deltas->*p.delta) ? (deltas->*p.delta)->down.rows : 0;
    step.low_rank.Reserve(step.max_rows, ranks);
    size_t column = 0;
    for (size_t i = 0; i < projections.size(); ++i) {
      const auto& delta = deltas->*projections[i].delta;
      if (!delta) continue;
      inner[i] = {step.low_rank.View(n).data + column, n, delta->down.rows, ranks};
      column += delta->down.rows;
      products[count++] = {&delta->down, inner[i]};
    }
  }
  kernels::MatMul(step.packed, std::span(products).first(count), model.pool);
  for (size_t i = 0; i < projections.size() && deltas != nullptr; ++i) {
    const auto& delta = deltas->*projections[i].delta;
    if (delta) {
      kernels::AddScaledProduct(inner[i], delta->up, model.adapter->lora_scale, projections[i].out, model.pool);
    }
  }
}

void Report(Step& step, int layer, MatrixInput which, ConstMatrixView rows) {
  if (step.on_matrix_input) step.on_matrix_input(layer, which, rows);
}

// Rows as the kernels want them: an empty list means all rows in order, which spares the gather.
std::span<const int32_t> RowsOrAll(const RowList& rows, const Step& step) {
  return rows.size() == step.rows.size() ? std::span<const int32_t>{} : std::span<const int32_t>(rows);
}

void Gather(const Transformer& model, const RowList& rows, Step& step) {
  kernels::PackRows(step.h, RowsOrAll(rows, step), true, &step.packed, model.pool);
  step.positions.clear();
  for (int32_t r : rows) step.positions.push_back(step.rows[static_cast<size_t>(r)].position);
}

// Norm of the heads (if the model has it) and rotation.
void NormAndRotate(const Transformer& model, int layer, const std::vector<float>& norm, MatrixView heads, Step& step) {
  const ModelConfig& c = model.config;
  const auto head_dim = static_cast<size_t>(c.head_dim);
  if (!norm.empty()) kernels::RmsNormHeads(heads, head_dim, norm, c.norm_eps, model.pool);
  kernels::Rope(heads, head_dim, c.rope_layout, step.rope[step.rope_of_layer[static_cast<size_t>(layer)]],
                step.positions, model.pool);
}

void StoreKv(const Transformer& model, int layer, const RowList& rows, Step& step) {
  const auto l = static_cast<size_t>(layer);
  const size_t layer_bytes = kernels::KvLayerBytes(step.kv_shape);
  const MatrixView k = step.k.View(rows.size());
  const MatrixView v = step.v.View(rows.size());
  model.pool.ParallelFor(rows.size(), kernels::kKvPagePositions, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const StepRow& row = step.rows[static_cast<size_t>(rows[i])];
      kernels::StoreKv(step.kv_shape, row.sequence->PageLayer(row.position, l, layer_bytes),
                       static_cast<size_t>(row.position) % kernels::kKvPagePositions, k.row(i), v.row(i));
    }
  });
  for (const int32_t r : rows) {
    const StepRow& row = step.rows[static_cast<size_t>(r)];
    row.sequence->SetSource(l, row.position, static_cast<uint16_t>(layer));
  }
}

// softmax(q K^T) V for the kept rows, into step.attended.
void AttendKept(const Transformer& model, int layer, Step& step) {
  const ModelConfig& c = model.config;
  const auto l = static_cast<size_t>(layer);
  const int64_t window = c.layers[l].window;
  const size_t n = step.kept.size();
  for (const StepRow& row : step.rows) row.sequence->CoverSources(l, row.position);
  step.attention_rows.clear();
  for (size_t i = 0; i < n; ++i) {
    const StepRow& row = step.rows[static_cast<size_t>(step.kept[i])];
    const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, row.position - window + 1);
    step.attention_rows.push_back({.query = step.q.View(n).row(i),
                                   .out = step.attended.View(n).row(i),
                                   .pages = row.sequence->pages.data(),
                                   .source = row.sequence->Sources(l, row.position),
                                   .first = static_cast<int32_t>(first),
                                   .last = row.position});
  }
  const kernels::AttentionShape shape = {step.kv_shape, static_cast<size_t>(c.num_heads), c.attention_scale};
  kernels::Attend(shape, l, step.attention_rows, model.pool);
}

// Self-attention of the kept rows, into step.branch_out.
void Attention(const Transformer& model, int layer, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const size_t n = step.kept.size();
  const std::array<Projection, 3> qkv = {{{&w.q, &LayerDeltas::q, step.q.View(n)},
                                          {&w.k, &LayerDeltas::k, step.k.View(n)},
                                          {&w.v, &LayerDeltas::v, step.v.View(n)}}};
  Project(model, layer, qkv, step);
  NormAndRotate(model, layer, w.q_norm, step.q.View(n), step);
  NormAndRotate(model, layer, w.k_norm, step.k.View(n), step);
  StoreKv(model, layer, step.kept, step);
  AttendKept(model, layer, step);
  Report(step, layer, MatrixInput::kAttended, step.attended.View(n));
  kernels::PackRows(step.attended.View(n), {}, true, &step.packed, model.pool);
  const Projection output = {&w.o, &LayerDeltas::o, step.branch_out.View(n)};
  Project(model, layer, {&output, 1}, step);
}

// down(activation(gate h) * up h) of the kept rows, into step.branch_out.
void Mlp(const Transformer& model, int layer, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const size_t n = step.kept.size();
  const std::array<Projection, 2> gate_up = {
      {{&w.gate, &LayerDeltas::gate, step.gate.View(n)}, {&w.up, &LayerDeltas::up, step.up.View(n)}}};
  Project(model, layer, gate_up, step);
  kernels::GatedActivation(model.config.activation, step.gate.View(n), step.up.View(n), model.pool);
  Report(step, layer, MatrixInput::kActivated, step.gate.View(n));
  kernels::PackRows(step.gate.View(n), {}, true, &step.packed, model.pool);
  const Projection down = {&w.down, &LayerDeltas::down, step.branch_out.View(n)};
  Project(model, layer, {&down, 1}, step);
}

void PostNorm(const Transformer& model, const std::vector<float>& norm, Step& step) {
  if (norm.empty()) return;
  const MatrixView out = step.branch_out.View(step.kept.size());
  kernels::RmsNorm(out, norm, model.config.norm_eps, out, model.pool);
}

}  // namespace

void ProjectAndStoreKv(const Transformer& model, int layer, const RowList& rows, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const size_t n = rows.size();
  Gather(model, rows, step);
  const std::array<Projection, 2> kv = {
      {{&w.k, &LayerDeltas::k, step.k.View(n)}, {&w.v, &LayerDeltas::v, step.v.View(n)}}};
  Project(model, layer, kv, step);
  NormAndRotate(model, layer, w.k_norm, step.k.View(n), step);
  StoreKv(model, layer, rows, step);
}

void DecoderLayer(const Transformer& model, int layer, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const float eps = model.config.norm_eps;

  const int attention = BranchIndex(layer, BranchKind::kAttention);
  kernels::RmsNorm(step.x, w.attn_norm, eps, step.h, model.pool);
  Decide(model, attention, step);
  ApplyKvRule(model, layer, step);
  if (!step.kept.empty()) {
    GateInput(model, attention, step);
    Report(step, layer, MatrixInput::kAttention, step.h);
    Gather(model, step.kept, step);
    Attention(model, layer, step);
    PostNorm(model, w.attn_post_norm, step);
  }
  GatedScatterAdd(model, attention, step);

  const int mlp = BranchIndex(layer, BranchKind::kMlp);
  kernels::RmsNorm(step.x, w.ffn_norm, eps, step.h, model.pool);
  Decide(model, mlp, step);
  if (!step.kept.empty()) {
    GateInput(model, mlp, step);
    Report(step, layer, MatrixInput::kMlp, step.h);
    Gather(model, step.kept, step);
    Mlp(model, layer, step);
    PostNorm(model, w.ffn_post_norm, step);
  }
  GatedScatterAdd(model, mlp, step);
}

}  // namespace gateskip
