// SPDX-License-Identifier: Apache-2.0
// The layer forward, in the paper's order: norm, decide, choose rows, gather, branch, gated scatter-add.
// A branch without kept rows is not executed and its weights are not read.
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

void AddDelta(const Transformer& model, const std::optional<LowRankMap>& delta, MatrixView out, Step& step) {
  if (!delta) return;
  step.low_rank.Reserve(step.max_rows, delta->down.rows);
  kernels::AddLowRank(step.packed, {&delta->down, &delta->up, model.adapter->lora_scale}, out,
                      step.low_rank.View(step.packed.num_rows), model.pool);
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

void StoreKv(int layer, const RowList& rows, Step& step) {
  const auto l = static_cast<size_t>(layer);
  const size_t layer_bytes = kernels::KvLayerBytes(step.kv_shape);
  for (size_t i = 0; i < rows.size(); ++i) {
    const StepRow& row = step.rows[static_cast<size_t>(rows[i])];
    kernels::StoreKv(step.kv_shape, row.sequence->PageLayer(row.position, l, layer_bytes),
                     static_cast<size_t>(row.position) % kernels::kKvPagePositions, step.k.View(rows.size()).row(i),
                     step.v.View(rows.size()).row(i));
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
  const LayerDeltas* deltas = DeltasOf(model, layer, step);
  const size_t n = step.kept.size();
  const std::array<Product, 3> qkv = {{{&w.q, step.q.View(n)}, {&w.k, step.k.View(n)}, {&w.v, step.v.View(n)}}};
  kernels::MatMul(step.packed, qkv, model.pool);
  if (deltas != nullptr) {
    AddDelta(model, deltas->q, step.q.View(n), step);
    AddDelta(model, deltas->k, step.k.View(n), step);
    AddDelta(model, deltas->v, step.v.View(n), step);
  }
  NormAndRotate(model, layer, w.q_norm, step.q.View(n), step);
  NormAndRotate(model, layer, w.k_norm, step.k.View(n), step);
  StoreKv(layer, step.kept, step);
  AttendKept(model, layer, step);
  kernels::PackRows(step.attended.View(n), {}, true, &step.packed, model.pool);
  const Product output = {&w.o, step.branch_out.View(n)};
  kernels::MatMul(step.packed, {&output, 1}, model.pool);
  if (deltas != nullptr) AddDelta(model, deltas->o, step.branch_out.View(n), step);
}

// down(activation(gate h) * up h) of the kept rows, into step.branch_out.
void Mlp(const Transformer& model, int layer, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const LayerDeltas* deltas = DeltasOf(model, layer, step);
  const size_t n = step.kept.size();
  const std::array<Product, 2> gate_up = {{{&w.gate, step.gate.View(n)}, {&w.up, step.up.View(n)}}};
  kernels::MatMul(step.packed, gate_up, model.pool);
  if (deltas != nullptr) {
    AddDelta(model, deltas->gate, step.gate.View(n), step);
    AddDelta(model, deltas->up, step.up.View(n), step);
  }
  kernels::GatedActivation(model.config.activation, step.gate.View(n), step.up.View(n), model.pool);
  kernels::PackRows(step.gate.View(n), {}, true, &step.packed, model.pool);
  const Product down = {&w.down, step.branch_out.View(n)};
  kernels::MatMul(step.packed, {&down, 1}, model.pool);
  if (deltas != nullptr) AddDelta(model, deltas->down, step.branch_out.View(n), step);
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
  const std::array<Product, 2> kv = {{{&w.k, step.k.View(n)}, {&w.v, step.v.View(n)}}};
  kernels::MatMul(step.packed, kv, model.pool);
  if (const LayerDeltas* deltas = DeltasOf(model, layer, step)) {
    AddDelta(model, deltas->k, step.k.View(n), step);
    AddDelta(model, deltas->v, step.v.View(n), step);
  }
  NormAndRotate(model, layer, w.k_norm, step.k.View(n), step);
  StoreKv(layer, rows, step);
}

void DecoderLayer(const Transformer& model, int layer, Step& step) {
  const LayerWeights& w = model.weights.layers[static_cast<size_t>(layer)];
  const float eps = model.config.norm_eps;

  const int attention = BranchIndex(layer, BranchKind::kAttention);
  kernels::RmsNorm(step.x, w.attn_norm, eps, step.h, model.pool);
  Decide(model, attention, step);
  ApplyKvRule(model, layer, step);
  if (!step.kept.empty()) {
    Gather(model, step.kept, step);
    Attention(model, layer, step);
    PostNorm(model, w.attn_post_norm, step);
  }
  GatedScatterAdd(model, attention, step);

  const int mlp = BranchIndex(layer, BranchKind::kMlp);
  kernels::RmsNorm(step.x, w.ffn_norm, eps, step.h, model.pool);
  Decide(model, mlp, step);
  if (!step.kept.empty()) {
    Gather(model, step.kept, step);
    Mlp(model, layer, step);
    PostNorm(model, w.ffn_post_norm, step);
  }
  GatedScatterAdd(model, mlp, step);
}

}  // namespace gateskip
