// SPDX-License-Identifier: Apache-2.0
#include "model/adapter_weights.h"

#include <map>
#include <utility>

#include "base/check.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

// ReadAdapter has verified names and shapes against the adapter's own config; this packs them.
class Packer {
 public:
  Packer(const Adapter& adapter, bool exact, ThreadPool& pool) : adapter_(adapter), exact_(exact), pool_(pool) {}

  const AdapterTensor& Get(const std::string& name) const {
    const auto found = adapter_.tensors.find(name);
    GS_CHECK(found != adapter_.tensors.end());
    return found->second;
  }

  kernels::PackedMatrix Matrix(const std::string& name, kernels::PackFormat fast_format) const {
    const AdapterTensor& tensor = Get(name);
    TensorView view = {.name = name,
                       .dtype = DType::kF32,
                       .shape = tensor.shape,
                       .data = std::as_bytes(std::span<const float>(tensor.values))};
    if (exact_) return kernels::PackWeights(view, kernels::PackFormat::kF32, pool_);
    if (fast_format != kernels::PackFormat::kNative) return kernels::PackWeights(view, fast_format, pool_);
    std::vector<uint16_t> halves(tensor.values.size());
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = FloatToHalf(tensor.values[i]);
    view.dtype = DType::kF16;
    view.data = std::as_bytes(std::span<const uint16_t>(halves));
    return kernels::PackWeights(view, kernels::PackFormat::kNative, pool_);
  }

  LowRankMap Map(const std::string& down, const std::string& up,
                 kernels::PackFormat down_format = kernels::PackFormat::kNative) const {
    return {Matrix(down, down_format), Matrix(up, kernels::PackFormat::kNative)};
  }

  std::optional<LowRankMap> Delta(int layer, const char* target) const {
    const std::string name = fmt::format("blk.{}.{}.lora_", layer, target);
    if (!adapter_.tensors.contains(name + "a")) return std::nullopt;
    return Map(name + "a", name + "b", kernels::PackFormat::kQ8);
  }

 private:
  const Adapter& adapter_;
  bool exact_;
  ThreadPool& pool_;
};

std::shared_ptr<const GateWeights> BindMatrices(const Packer& packer, GateKind kind, const std::string& prefix) {
  GateWeights weights;
  switch (kind) {
    case GateKind::kScalar:
      weights.scalar = packer.Get(prefix + "gate.weight").values;
      break;
    case GateKind::kLowRank:
    case GateKind::kMlp:
      weights.low_rank = packer.Map(prefix + "gate.down", prefix + "gate.up");
      break;
    case GateKind::kVector:
      weights.vector = packer.Matrix(prefix + "gate.weight", kernels::PackFormat::kQ8);
      break;
  }
  return std::make_shared<const GateWeights>(std::move(weights));
}

// `matrices` holds what is packed already, by prefix: shared ones once.
BranchGate BindGate(const Packer& packer, const AdapterConfig& config, int branch,
                    std::map<std::string, std::shared_ptr<const GateWeights>>* matrices) {
  BranchGate gate;
  gate.gated = config.gated[static_cast<size_t>(branch)];
  if (!gate.gated) return gate;
  const std::string p = BranchPrefix(branch);
  if (config.HasGate(branch)) {
    const std::string prefix = GateMatrixPrefix(config, branch);
    std::shared_ptr<const GateWeights>& weights = (*matrices)[prefix];
    if (!weights) weights = BindMatrices(packer, config.gate_kind, prefix);
    gate.weights = weights;
    gate.bias = packer.Get(p + "gate.bias").values;
    if (config.gate_kind == GateKind::kScalar) gate.decision_bias = std::exchange(gate.bias, {})[0];
    if (config.gate_kind == GateKind::kVector) {
      gate.head = packer.Get(p + "decision.weight").values;
      gate.decision_bias = packer.Get(p + "decision.bias").values[0];
    }
  }
  if (config.skip_rank >= 0) gate.skip_bias = packer.Get(p + "skip.bias").values;
  if (config.skip_rank > 0) gate.skip_map = packer.Map(p + "skip.down", p + "skip.up", kernels::PackFormat::kQ8);
  return gate;
}

}  // namespace

void CheckAdapterBelongs(const AdapterConfig& adapter, const ModelConfig& config, const std::string& fingerprint,
                         const std::string& origin) {
  const auto mismatch = [&](const char* subject, const auto& expected, const auto& found) {
    Fail(ErrorCode::kMismatch,
         "[{}] {}: expected {} (the loaded model), found {} (the adapter was trained for {}); use "
         "the adapter's own base model",
         origin, subject, expected, found, adapter.base_model_name);
  };
  if (adapter.architecture != config.architecture) {
    mismatch("architecture", config.architecture, adapter.architecture);
  }
  if (adapter.num_layers != config.num_layers) mismatch("num_layers", config.num_layers, adapter.num_layers);
  if (adapter.hidden_size != config.hidden_size) mismatch("hidden_size", config.hidden_size, adapter.hidden_size);
  if (adapter.base_fingerprint != fingerprint) mismatch("base_fingerprint", fingerprint, adapter.base_fingerprint);
}

namespace {

// LoRA shapes depend on the base's sizes, which the adapter file alone does not know.
void CheckDelta(const LowRankMap& delta, int out, int in, const std::string& origin, int layer, const char* name) {
  if (delta.up.rows != static_cast<size_t>(out) || delta.down.cols != static_cast<size_t>(in)) {
    Fail(ErrorCode::kMismatch,
         "[{}] blk.{}.{}.lora: expected a delta of [{}, {}], found [{}, {}]; use the adapter's own "
         "base model",
         origin, layer, name, out, in, delta.up.rows, delta.down.cols);
  }
}

}  // namespace

AdapterWeights BindAdapter(const Adapter& adapter, const ModelConfig& config, const std::string& base_fingerprint,
                           const std::string& origin, bool exact, ThreadPool& pool) {
  CheckAdapterBelongs(adapter.config, config, base_fingerprint, origin);
  const Packer packer(adapter, exact, pool);
  AdapterWeights weights;
  weights.config = adapter.config;
  std::map<std::string, std::shared_ptr<const GateWeights>> matrices;
  for (int b = 0; b < config.num_branches(); ++b) {
    weights.gates.push_back(BindGate(packer, adapter.config, b, &matrices));
  }
  if (adapter.config.lora_rank > 0) {
    weights.lora_scale = adapter.config.lora_alpha / static_cast<float>(adapter.config.lora_rank);
    const int d = config.hidden_size;
    for (int l = 0; l < config.num_layers; ++l) {
      LayerDeltas deltas;
      const auto bind = [&](std::optional<LowRankMap>* delta, const char* name, int out, int in) {
        *delta = packer.Delta(l, name);
        if (*delta) CheckDelta(**delta, out, in, origin, l, name);
      };
      bind(&deltas.q, "attn_q", config.query_size(), d);
      bind(&deltas.k, "attn_k", config.kv_size(), d);
      bind(&deltas.v, "attn_v", config.kv_size(), d);
      bind(&deltas.o, "attn_output", d, config.query_size());
      bind(&deltas.gate, "ffn_gate", config.ffn_size, d);
      bind(&deltas.up, "ffn_up", config.ffn_size, d);
      bind(&deltas.down, "ffn_down", d, config.ffn_size);
      weights.deltas.push_back(std::move(deltas));
    }
  }
  return weights;
}

}  // namespace gateskip
