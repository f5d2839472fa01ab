// SPDX-License-Identifier: Apache-2.0
// The gated model: the frozen base plus the trainable parameters of an adapter (gates, skip paths, LoRA), and
// its forward pass with hard decisions and straight-through derivatives.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "io/adapter.h"
#include "train/base_model.h"

namespace gateskip::train {

enum class ParameterGroup { kGateWeight, kGateBias, kSkip, kLora };

struct Parameter {
  std::string name;  // as in the adapter file
  Tensor value;      // f32 leaf
  ParameterGroup group;
};

struct LoraPair {
  Tensor a, b;  // [r, in], [out, r]; undefined = none
};

struct BranchParameters {
  Tensor gate_weight, gate_down, gate_up, gate_bias;  // which are defined depends on the gate kind
  Tensor decision_weight, decision_bias;              // vector gates
  Tensor skip_bias, skip_down, skip_up;
};

struct LayerLora {
  LoraPair q, k, v, o, gate, up, down;
};

// How a forward pass decides. Rows are batch * length.
struct Decisions {
  enum class Kind {
    kDense,       // every branch runs
    kThresholds,  // run iff z > threshold of the row's sequence (thresholds, noise), as gates
    kImportance,  // run iff sigmoid(z) > adapter threshold of the branch, as the runtime does
    kMask,        // fixed [branches]: 1 runs
  };
  Kind kind = Kind::kDense;
  std::vector<float> thresholds;  // kThresholds: [batch]; -infinity = dense. kImportance: [branches]
  double noise = 0;               // logistic noise on z, scaled
  uint64_t noise_seed = 0, noise_index = 0;
  double temperature = 0.3;
  bool soft = false;          // keep = sigmoid((z - threshold) / temperature): gradient checks only
  std::vector<uint8_t> mask;  // kMask
};

struct ForwardTrace {
  std::vector<Tensor> z;     // [branches] [rows] f32 gate logits as decided on (noise included), detached
  std::vector<Tensor> keep;  // [branches] [rows] f32 0/1; undefined = dense
  Tensor gate_l2;            // mean g^2 over gated branches, differentiable
  Tensor head_loss;          // vector gates: BCE of the decision head
};

class GatedModel {
 public:
  // `config` fixes kinds, ranks and gated branches. Gates start at zero weight, bias 5; LoRA B and skip paths at
  // zero; LoRA A ~ N(0, 1 / in) from `seed`.
  GatedModel(const BaseModel& base, const AdapterConfig& config, uint64_t seed);

  // Makes the f32 -> compute-type copies the forward pass uses. Call after parameters change.
  void Refresh();

  // Sequences of equal length, tokens [batch, length] int64 -> hidden states before the output norm,
  // [batch * length, d] f32. `trace` may be null. The adapter is left out when `use_adapter` is false.
  Tensor Forward(const Tensor& tokens, const Decisions& decisions, bool use_adapter, ForwardTrace* trace);

  // The same, from the residual stream before branch `first_branch` on; kDense and kMask under KV rule `compute`.
  // visit(branch, x before it, h, output) may be empty.
  using Visitor = std::function<void(int, const Tensor&, const Tensor&, const Tensor&)>;
  Tensor ForwardFrom(Tensor x, int first_branch, int64_t batch, const Decisions& decisions, bool use_adapter,
                     ForwardTrace* trace, const Visitor& visit);
  Tensor Embed(const Tensor& tokens) const;
  // Logits of the given rows of the hidden states, compute type. rows undefined = all.
  Tensor Logits(const Tensor& hidden, const Tensor& rows) const;

  const BaseModel& base() const { return base_; }
  const AdapterConfig& config() const { return config_; }
  AdapterConfig& mutable_config() { return config_; }
  std::vector<Parameter>& parameters() { return parameters_; }
  BranchParameters& branch(int b) { return branches_[static_cast<size_t>(b)]; }
  int num_branches() const { return 2 * base_.config.num_layers; }

  // Drops the gates and skip paths of branches whose config().gated turned false.
  void RemoveUngated();
  Adapter ToAdapter() const;
  // Parameters from an adapter of the same config; throws Error(kMismatch).
  void LoadParameters(const Adapter& adapter);

 private:
  struct KvState;
  Tensor Add(const std::string& name, Tensor value, ParameterGroup group);
  Tensor Linear(const Tensor& x, const Tensor& weight, const LoraPair& lora, bool use_adapter) const;
  Tensor RunAttention(int layer, const Tensor& h, int64_t batch, const Tensor& keep, bool use_adapter, KvState& kv);
  Tensor RunMlp(int layer, const Tensor& h, bool use_adapter);
  // Gate logits [rows], undefined for a branch without gate.
  Tensor GateZ(int branch, const Tensor& h, ForwardTrace* trace, Tensor* multiplier);

  const BaseModel& base_;
  AdapterConfig config_;
  std::vector<Parameter> parameters_;
  std::vector<BranchParameters> branches_;
  std::vector<LayerLora> lora_;
  std::vector<BranchParameters> branches_compute_;  // casts of the matrices
  std::vector<LayerLora> lora_compute_;
};

}  // namespace gateskip::train
