// SPDX-License-Identifier: Apache-2.0
#include "io/testing/small_adapter.h"

#include <fmt/format.h>

namespace gateskip::testing {
namespace {

constexpr int64_t kHidden = 4;

void Add(Adapter* adapter, const std::string& name, const std::vector<int64_t>& shape) {
  AdapterTensor tensor = {shape, {}};
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  for (int64_t i = 0; i < count; ++i) {
    tensor.values.push_back(0.25F * static_cast<float>(i) - 0.5F * static_cast<float>(adapter->tensors.size()));
  }
  adapter->tensors[name] = std::move(tensor);
}

void AddBranch(Adapter* adapter, int branch) {
  const AdapterConfig& c = adapter->config;
  if (!c.gated[static_cast<size_t>(branch)]) return;
  const std::string prefix = BranchPrefix(branch);
  const std::string matrix = GateMatrixPrefix(c, branch);
  const auto add_matrix = [&](const char* name, const std::vector<int64_t>& shape) {
    if (!adapter->tensors.contains(matrix + name)) Add(adapter, matrix + name, shape);  // shared ones once
  };
  if (c.HasGate(branch)) {
    if (GateHasRank(c.gate_kind)) {
      add_matrix("gate.down", {c.gate_rank, kHidden});
      add_matrix("gate.up", {kHidden, c.gate_rank});
      Add(adapter, prefix + "gate.bias", {kHidden});
    } else if (c.gate_kind == GateKind::kScalar) {
      add_matrix("gate.weight", {kHidden});
      Add(adapter, prefix + "gate.bias", {1});
    } else {
      add_matrix("gate.weight", {kHidden, kHidden});
      Add(adapter, prefix + "gate.bias", {kHidden});
      Add(adapter, prefix + "decision.weight", {kHidden});
      Add(adapter, prefix + "decision.bias", {1});
    }
  }
  if (c.skip_rank >= 0) Add(adapter, prefix + "skip.bias", {kHidden});
  if (c.skip_rank > 0) {
    Add(adapter, prefix + "skip.down", {c.skip_rank, kHidden});
    Add(adapter, prefix + "skip.up", {kHidden, c.skip_rank});
  }
}

}  // namespace

Adapter SmallAdapter(const SmallAdapterOptions& options) {
  Adapter adapter;
  AdapterConfig& c = adapter.config;
  c.base_model_name = "toy";
  c.base_fingerprint = std::string(64, 'a');
  c.architecture = "llama";
  c.num_layers = 2;
  c.hidden_size = static_cast<int>(kHidden);
  c.gate_kind = options.kind;
  c.gate_rank = GateHasRank(options.kind) ? 2 : 0;
  c.gate_shared = options.shared;
  c.gate_product = options.product;
  c.gate_scope = options.scope;
  c.kv_rule = options.kv_rule;
  const bool whole_layers = options.scope == GateScope::kLayer;
  c.gated = {true, true, !whole_layers, false};
  c.always_run_positions = 3;
  c.skip_rank = options.skip_rank;
  c.lora_rank = options.lora_rank;
  c.lora_alpha = options.lora_rank > 0 ? 16.0F : 0.0F;
  if (options.lora_rank > 0) c.lora_targets = {"attn_q", "ffn_down"};
  c.budgets = {0.0, 0.15, 0.25};
  c.thresholds = {{-1, -1, -1, -1}, {0.25F, 0.5F, -1, -1}, {0.5F, 0.75F, 0.125F, -1}};
  if (whole_layers) c.thresholds = {{-1, -1, -1, -1}, {0.25F, 0.25F, -1, -1}, {0.5F, 0.5F, -1, -1}};
  c.realised_net_saving = {-0.01, 0.14, 0.26};
  c.calibration_sha256 = std::string(64, 'b');
  c.calibration_tokens = 4096;
  c.training_json = R"({"learning_rate":0.001,"steps":100})";
  c.self_test = {{1, 2}, 0.25, {"11", "10", "11", "11"}, {7, 3}, {1.5F, 0.5F}};
  for (int branch = 0; branch < 4; ++branch) AddBranch(&adapter, branch);
  for (int layer = 0; layer < 2 && options.lora_rank > 0; ++layer) {
    for (const std::string& target : c.lora_targets) {
      Add(&adapter, fmt::format("blk.{}.{}.lora_a", layer, target), {c.lora_rank, 8});
      Add(&adapter, fmt::format("blk.{}.{}.lora_b", layer, target), {6, c.lora_rank});
    }
  }
  return adapter;
}

}  // namespace gateskip::testing
