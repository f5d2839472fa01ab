// SPDX-License-Identifier: Apache-2.0
// The gated model: the base plus the trainable parameters (gates, skip paths, LoRA, any of the base's own), and its
// forward pass with hard decisions and straight-through derivatives.
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

// Sequences of equal length, maybe of several documents each: attention never crosses from one into another.
struct TokenBatch {
  TokenBatch(Tensor token_ids, Tensor document_starts = {})  // NOLINT: tokens alone are a batch
      : tokens(std::move(token_ids)), starts(std::move(document_starts)) {}

  int64_t size() const { return tokens.size(0); }
  int64_t length() const { return tokens.size(1); }

  Tensor tokens;  // [batch, length] int64
  Tensor starts;  // [batch * length] int32: first row of the same document, counted in the sequence; undefined = 0
};

// A base parameter that is trained: its GGUF name and its f32 start value.
using NamedTensor = std::pair<std::string, Tensor>;

class GatedModel {
 public:
  // `config` fixes kinds, ranks and gated branches. Gates start at zero weight, bias 5; LoRA B and skip paths at
  // zero; LoRA A ~ N(0, 1 / in) from `seed`. `base` stays what it is: trained copies of `trained_base` stand in for
  // its tensors wherever the adapter is used.
  GatedModel(const BaseModel& base, const AdapterConfig& config, uint64_t seed,
             const std::vector<NamedTensor>& trained_base = {});
  GatedModel(const GatedModel&) = delete;
  GatedModel& operator=(const GatedModel&) = delete;

  // Makes the f32 -> compute-type copies the forward pass uses. Call after parameters change.
  void Refresh();

  // -> hidden states before the output norm, [batch * length, d] f32. `trace` may be null. Without the adapter, and
  // without trained base parameters, when `use_adapter` is false.
  Tensor Forward(const TokenBatch& batch, const Decisions& decisions, bool use_adapter, ForwardTrace* trace);

  // The same, from the residual stream before branch `first_branch` on; kDense and kMask under KV rule `compute`.
  // visit(branch, x before it, h, output) may be empty.
  using Visitor = std::function<void(int, const Tensor&, const Tensor&, const Tensor&)>;
  Tensor ForwardFrom(Tensor x, int first_branch, const TokenBatch& batch, const Decisions& decisions, bool use_adapter,
                     ForwardTrace* trace, const Visitor& visit);
  // tokens -> [batch * length, d] f32.
  Tensor Embed(const Tensor& tokens, bool use_adapter) const;
  // Logits of the given rows of the hidden states, compute type. rows undefined = all.
  Tensor Logits(const Tensor& hidden, const Tensor& rows, bool use_adapter) const;

  // Keep each layer's input only and run the layer again for its gradient.
  void set_activation_checkpointing(bool on) { activation_checkpointing_ = on; }
  void set_penalty(GatePenalty penalty) { gates_.set_penalty(std::move(penalty)); }

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
  struct Pass;
  struct KvState;
  struct Residual;
  Tensor Add(const std::string& name, Tensor value, ParameterGroup group);
  const BaseModel& weights(bool use_adapter) const { return use_adapter ? weights_ : base_; }
  Tensor Linear(const Tensor& x, const Tensor& weight, const LoraPair& lora, bool use_adapter) const;
  Tensor RunAttention(int layer, const Pass& pass, const Tensor& h, const Tensor& keep, KvState& kv) const;
  Tensor RunMlp(int layer, const Pass& pass, const Tensor& h) const;
  // One branch: norm, decide, branch, gated add.
  void RunBranch(int branch, const Pass& pass, Residual& stream) const;
  // Both branches of a layer, its inner activations not kept.
  void RunCheckpointed(int layer, const Pass& pass, Residual& stream) const;

  const BaseModel& base_;
  BaseModel weights_;                                // base_, with trained copies in the compute type
  std::vector<std::pair<Tensor*, Tensor>> trained_;  // slots of weights_ and their f32 masters, as in parameters_
  AdapterConfig config_;
  std::vector<Parameter> parameters_;
  BranchGates gates_;  // refers to config_
  std::vector<LayerLora> lora_;
  std::vector<LayerLora> lora_compute_;
  bool activation_checkpointing_ = false;
};

}  // namespace gateskip::train
