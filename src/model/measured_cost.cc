// SPDX-License-Identifier: Apache-2.0
#include "model/measured_cost.h"

#include "gate/branch.h"

namespace gateskip {
namespace {

double BytesOf(const std::vector<float>& values) { return static_cast<double>(values.size() * sizeof(float)); }

double BytesOf(const kernels::PackedMatrix& matrix) { return static_cast<double>(matrix.bytes); }

double BytesOf(const std::optional<LowRankMap>& map) { return map ? BytesOf(map->down) + BytesOf(map->up) : 0.0; }

void AddGate(const BranchGate& gate, GateProduct product, BranchCost* cost) {
  if (!gate.gated) return;
  cost->skip_path = BytesOf(gate.skip_bias) + BytesOf(gate.skip_map);
  if (!gate.weights) return;
  const LowRankMap& map = gate.weights->low_rank;
  const double values = BytesOf(map.down) + BytesOf(map.up) + BytesOf(gate.weights->vector) + BytesOf(gate.bias);
  const std::span<const float> dot = gate.decision_weight();
  cost->decision = dot.empty() ? values : static_cast<double>(dot.size_bytes());
  if (product == GateProduct::kNone) return;
  // What decides for a vector gate is its head; the gate itself runs for kept rows.
  if (gate.head.empty()) {
    cost->undecided_extra = cost->decision;
  } else {
    cost->kept_extra += values;
  }
}

void AddDeltas(const LayerDeltas& deltas, BranchCost* attention, BranchCost* mlp) {
  const double kv = BytesOf(deltas.k) + BytesOf(deltas.v);
  attention->kept_extra += BytesOf(deltas.q) + kv + BytesOf(deltas.o);
  attention->kv += kv;
  mlp->kept_extra += BytesOf(deltas.gate) + BytesOf(deltas.up) + BytesOf(deltas.down);
}

}  // namespace

CostModel MeasureCost(const ModelWeights& weights, const AdapterWeights* adapter) {
  std::vector<BranchCost> branches(2 * weights.layers.size());
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const LayerWeights& layer = weights.layers[l];
    BranchCost& attention = branches[2 * l];
    BranchCost& mlp = branches[2 * l + 1];
    attention.dense = static_cast<double>(layer.attention_bytes());
    attention.kv = BytesOf(layer.k) + BytesOf(layer.v);
    mlp.dense = static_cast<double>(layer.mlp_bytes());
    if (adapter == nullptr) continue;
    if (!adapter->deltas.empty()) AddDeltas(adapter->deltas[l], &attention, &mlp);
    AddGate(adapter->gates[2 * l], adapter->config.gate_product, &attention);
    AddGate(adapter->gates[2 * l + 1], adapter->config.gate_product, &mlp);
  }
  return CostModel(std::move(branches), BytesOf(weights.head));
}

}  // namespace gateskip
