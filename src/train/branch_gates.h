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

inline constexpr float kGateBiasStart = 5.0F;  // arXiv 2510.13876: gates start open

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
    kMask,        // fixed, spelled out per branch
  };
  Kind kind = Kind::kDense;
  // kThresholds: [batch]; -infinity = dense. kQuantile: [batch] shares of the rows that skip. kImportance: [branches]
  std::vector<float> thresholds;
  double noise = 0;  // logistic noise on z, scaled
  uint64_t noise_seed = 0, noise_index = 0;
  double temperature = 0.3;
  bool straight_through = true;  // false: no gradient passes through the decisions
  bool soft = false;             // keep = sigmoid((z - threshold) / temperature): gradient checks only
  std::vector<uint8_t> mask;     // kMask: [branches] for every sequence, or [batch * branches]; 1 runs
};

// What is added to the loss for open gates: weights of mean(g^2), mean(g) and KL(Bernoulli(target) ||
// Bernoulli(mean(g))), each the mean over the gates of `layers`.
struct GatePenalty {
  double l2 = 0, l1 = 0, kl = 0;
  double target = 0.8;
  std::vector<bool> layers;  // [layers]

  bool is_zero() const { return l2 == 0 && l1 == 0 && kl == 0; }
};

struct ForwardTrace {
  // [branches] [rows] f32 gate logits as decided on, noise included; infinite where a row always runs
  std::vector<Tensor> z;
  std::vector<Tensor> keep;       // [branches] [rows] f32 0/1; undefined = dense
  std::vector<double> gate_mean;  // [branches] mean importance; NaN = not evaluated
  Tensor penalty;                 // GatePenalty, differentiable
  Tensor head_loss;               // vector gates: BCE of the decision head, the mean over the gates

  explicit ForwardTrace(int num_branches = 0);
};

// What is decided for the rows of one branch.
struct BranchDecision {
  Tensor z;            // [rows] f32 gate logits with their derivative; undefined: no gate decides
  Tensor keep, slope;  // [rows] f32, keep and d keep / d z; undefined: every row runs
  Tensor g;            // [rows, 1] or [rows, d] f32 with its derivative, where the product wants it; else undefined
};

class BranchGates {
 public:
  // `config` outlives the gates. Gates start open (bias 5) with zero weights; of a product of two matrices the one next
  // to the input, and the matrix of vector gates, start N(0, 0.01^2). Skip paths start at zero.
  BranchGates(const AdapterConfig& config, uint64_t seed, const AddParameter& add);

  // Makes the f32 -> compute-type copies the forward pass uses. Call after parameters change.
  void Refresh(at::ScalarType dtype);

  // The three steps of a branch around the branch itself. h [batch * length, d] is its normalised input, which the gate
  // reads detached; starts as in TokenBatch. `before` is what was decided for the branch before this one: layer scope
  // takes the MLP's decision from its attention branch. trace may be null.
  BranchDecision Decide(int branch, const Tensor& h, int64_t batch, const Tensor& starts, const Decisions& decisions,
                        const BranchDecision& before, ForwardTrace* trace) const;
  // What goes into the branch: h, or g * h for gates before it. Rows that skip attention keep their h, of which their
  // K/V are, as in the runtime.
  Tensor Input(int branch, const Tensor& h, const BranchDecision& decision) const;
  // x + keep * out + (1 - keep) * skip path, out multiplied by g for gates after the branch.
  Tensor AddResidual(int branch, const Tensor& x, const Tensor& h, const Tensor& out,
                     const BranchDecision& decision) const;

  void set_penalty(GatePenalty penalty) { penalty_ = std::move(penalty); }
  BranchParameters& branch(int b) { return branches_[static_cast<size_t>(b)]; }
  // Drops the parameters of branches that are not gated (any more); returns what their names begin with.
  std::vector<std::string> RemoveUngated();

 private:
  void AddGate(int branch, uint64_t seed, const AddParameter& add);
  // Takes the matrices of the first gate below of the branch's kind, if they are shared and there is one.
  bool AdoptSharedMatrices(int branch);
  const BranchParameters& compute(int b) const { return compute_[static_cast<size_t>(b)]; }
  // Logits [rows] and g of a branch that has a gate.
  Tensor Z(int branch, const Tensor& h, ForwardTrace* trace, Tensor* g) const;
  // keep and slope of a branch of fixed decisions; undefined if every row runs.
  void FollowMask(int branch, const Tensor& h, int64_t batch, const Tensor& starts, const Decisions& decisions,
                  BranchDecision* decision) const;
  // keep and slope of logits z [rows]; *decided_z receives them as decided on, noise included.
  void Threshold(const Tensor& z, int branch, int64_t batch, const Tensor& starts, const Decisions& decisions,
                 BranchDecision* decision, Tensor* decided_z) const;
  // Mean importance and penalty of one gate, into the trace.
  void Note(int branch, const Tensor& g, ForwardTrace& trace) const;
  int NumGates(const std::vector<bool>& layers) const;  // all layers if empty

  const AdapterConfig& config_;
  GatePenalty penalty_;
  std::vector<BranchParameters> branches_;  // [branches] f32 leaves; shared ones are the same tensors
  std::vector<BranchParameters> compute_;   // matrices of the compute type
};

}  // namespace gateskip::train
