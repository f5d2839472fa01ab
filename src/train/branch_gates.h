// SPDX-License-Identifier: Apache-2.0
// What GateSkip (arXiv 2510.13876) adds to the branches of a model in training: gates and skip paths, their
// parameters, and the hard decisions with straight-through derivatives.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/adapter.h"
#include "train/parameter.h"

namespace gateskip::train {

struct BranchParameters {
  Tensor gate_weight, gate_down, gate_up, gate_bias;  // which are defined depends on the gate kind
  Tensor decision_weight, decision_bias;              // vector gates
  Tensor skip_bias, skip_down, skip_up;
};

// How a forward pass decides. Rows are batch * length.
struct Decisions {
  enum class Kind {
    kDense,       // every branch runs
    kThresholds,  // run iff z > threshold of the row's sequence (thresholds, noise), as gates
    kQuantile,    // run iff z > the quantile of the branch's logits over the row's own sequence (the paper's rule)
    kImportance,  // run iff sigmoid(z) > adapter threshold of the branch, as the runtime does
    kMask,        // fixed [branches]: 1 runs
  };
  Kind kind = Kind::kDense;
  // kThresholds: [batch]; -infinity = dense. kQuantile: [batch] shares of the rows that skip. kImportance: [branches]
  std::vector<float> thresholds;
  double noise = 0;  // logistic noise on z, scaled
  uint64_t noise_seed = 0, noise_index = 0;
  double temperature = 0.3;
  bool straight_through = true;  // false: no gradient passes through the decisions
  bool soft = false;             // keep = sigmoid((z - threshold) / temperature): gradient checks only
  std::vector<uint8_t> mask;     // kMask
};

// What is added to the loss for open gates, over the gated branches of `layers`: weights of mean(g^2), mean(g) and
// KL(Bernoulli(target) || Bernoulli(mean(g))), each the mean over those branches.
struct GatePenalty {
  double l2 = 0, l1 = 0, kl = 0;
  double target = 0.8;
  std::vector<bool> layers;
};

struct ForwardTrace {
  std::vector<Tensor>
      z;  // [branches] [rows] f32 gate logits as decided on (noise included; infinite where a row always runs)
  std::vector<Tensor> keep;       // [branches] [rows] f32 0/1; undefined = dense
  std::vector<double> gate_mean;  // [branches] mean importance; NaN = no gate
  Tensor penalty;                 // GatePenalty, differentiable
  Tensor head_loss;               // vector gates: BCE of the decision head

  explicit ForwardTrace(int num_branches = 0);
};

// What decides keep for the rows of one branch, and d keep / d z.
struct KeepSlope {
  Tensor keep, slope;
};

// "blk.{l}.attn." or "blk.{l}.mlp.".
std::string BranchPrefix(int branch);

class BranchGates {
 public:
  // `config` outlives the gates. Gates start at zero weight, bias 5; skip paths at zero.
  BranchGates(const AdapterConfig& config, uint64_t seed, const AddParameter& add);

  // Makes the f32 -> compute-type copies the forward pass uses. Call after parameters change.
  void Refresh(at::ScalarType dtype);

  // Gate logits [rows], undefined for a branch without gate; *multiplier receives g, [rows, 1] or [rows, d].
  Tensor Z(int branch, const Tensor& h, ForwardTrace* trace, Tensor* multiplier) const;
  // z [rows], detached; starts as in TokenBatch. *decided_z receives the logits as decided on, noise included.
  KeepSlope Decide(const Tensor& z, int branch, int64_t batch, const Tensor& starts, const Decisions& decisions,
                   Tensor* decided_z) const;

  // Every row skips but those that always run.
  KeepSlope LeaveOut(int64_t batch, int64_t length, const Tensor& starts) const;

  void set_penalty(GatePenalty penalty) { penalty_ = std::move(penalty); }

  BranchParameters& branch(int b) { return branches_[static_cast<size_t>(b)]; }
  const BranchParameters& compute(int b) const { return compute_[static_cast<size_t>(b)]; }
  void Remove(int b) { branches_[static_cast<size_t>(b)] = BranchParameters(); }

 private:
  // Into the trace, of one branch.
  void AddPenalty(int branch, const Tensor& multiplier, ForwardTrace& trace) const;

  const AdapterConfig& config_;
  GatePenalty penalty_;
  std::vector<BranchParameters> branches_;  // [branches] f32 leaves
  std::vector<BranchParameters> compute_;   // matrices of the compute type
};

}  // namespace gateskip::train
