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
#include "train/branch_gates.h"
#include "train/parameter.h"

namespace gateskip::train {

struct LoraPair {
  Tensor a, b;  // [r, in], [out, r]; undefined = none
};

struct LayerLora {
  LoraPair q, k, v, o, gate, up, down;
};

class GatedModel {
 public:
  // `config` fixes kinds, ranks and gated branches. Gates start at zero weight, bias 5; LoRA B and skip paths at
  // zero; LoRA A ~ N(0, 1 / in) from `seed`.
  GatedModel(const BaseModel& base, const AdapterConfig& config, uint64_t seed);
  GatedModel(const GatedModel&) = delete;
  GatedModel& operator=(const GatedModel&) = delete;

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
  BranchParameters& branch(int b) { return gates_.branch(b); }
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

  const BaseModel& base_;
  AdapterConfig config_;
  std::vector<Parameter> parameters_;
  BranchGates gates_;  // refers to config_
  std::vector<LayerLora> lora_;
  std::vector<LayerLora> lora_compute_;
};

}  // namespace gateskip::train
