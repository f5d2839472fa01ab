// SPDX-License-Identifier: Apache-2.0
#include "train/branch_gates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "gate/branch.h"
#include "train/ops.h"

namespace gateskip::train {
namespace {

constexpr double kWeightDeviation = 0.01;  // arXiv 2510.13876

bool DecidesByGates(const Decisions& decisions) {
  return decisions.kind != Decisions::Kind::kDense && decisions.kind != Decisions::Kind::kMask;
}

// Of each row, its place in its document.
Tensor Positions(int64_t batch, int64_t length, const Tensor& starts) {
  const Tensor position = at::arange(length, at::kInt).repeat({batch});
  return starts.defined() ? position - starts : position;
}

// The value that `share` of the sequence's rows do not exceed, the first rows left out; -infinity for none.
float Quantile(const float* z, int64_t first, int64_t length, double share) {
  std::vector<float> values(z + first, z + length);
  const auto count = static_cast<size_t>(share * static_cast<double>(values.size()));
  if (count == 0) return -std::numeric_limits<float>::infinity();
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(count) - 1, values.end());
  return values[count - 1];
}

}  // namespace

ForwardTrace::ForwardTrace(int num_branches)
    : z(static_cast<size_t>(num_branches)),
      keep(static_cast<size_t>(num_branches)),
      gate_mean(static_cast<size_t>(num_branches), std::numeric_limits<double>::quiet_NaN()),
      penalty(at::zeros({}, at::kFloat)),
      head_loss(at::zeros({}, at::kFloat)) {}

BranchGates::BranchGates(const AdapterConfig& config, uint64_t seed, const AddParameter& add) : config_(config) {
  const int64_t d = config_.hidden_size;
  branches_.resize(config_.gated.size());
  for (int b = 0; b < static_cast<int>(branches_.size()); ++b) {
    if (!config_.gated[static_cast<size_t>(b)]) continue;
    if (config_.HasGate(b)) AddGate(b, seed, add);
    const std::string p = BranchPrefix(b);
    BranchParameters& branch = branches_[static_cast<size_t>(b)];
    if (config_.skip_rank >= 0) {
      branch.skip_bias = add(p + "skip.bias", at::zeros({d}, at::kFloat), ParameterGroup::kSkip);
    }
    if (config_.skip_rank > 0) {
      branch.skip_down = add(p + "skip.down", at::zeros({config_.skip_rank, d}, at::kFloat), ParameterGroup::kSkip);
      branch.skip_up = add(p + "skip.up", at::zeros({d, config_.skip_rank}, at::kFloat), ParameterGroup::kSkip);
    }
  }
}

void BranchGates::AddGate(int b, uint64_t seed, const AddParameter& add) {
  const int64_t d = config_.hidden_size;
  const int64_t rank = config_.gate_rank;
  const std::string p = BranchPrefix(b);
  BranchParameters& branch = branches_[static_cast<size_t>(b)];
  if (!AdoptSharedMatrices(b)) {
    const std::string matrix = GateMatrixPrefix(config_, b) + "gate.";
    const auto weight = [&](const char* name, Tensor start) {
      return add(matrix + name, std::move(start), ParameterGroup::kGateWeight);
    };
    const Random random(seed, Stream::kInit, static_cast<uint64_t>(b));
    switch (config_.gate_kind) {
      case GateKind::kScalar:
        branch.gate_weight = weight("weight", at::zeros({d}, at::kFloat));
        break;
      case GateKind::kLowRank:
      case GateKind::kMlp:
        branch.gate_down = weight("down", NormalTensor({rank, d}, kWeightDeviation, random));
        branch.gate_up = weight("up", at::zeros({d, rank}, at::kFloat));
        break;
      case GateKind::kVector:
        branch.gate_weight = weight("weight", NormalTensor({d, d}, kWeightDeviation, random));
        break;
    }
  }
  const auto bias = [&](const char* name, int64_t width) {
    return add(p + name, at::full({width}, kGateBiasStart, at::kFloat), ParameterGroup::kGateBias);
  };
  if (config_.gate_kind == GateKind::kVector) {
    branch.decision_weight = add(p + "decision.weight", at::zeros({d}, at::kFloat), ParameterGroup::kGateWeight);
    branch.decision_bias = bias("decision.bias", 1);
  }
  branch.gate_bias = bias("gate.bias", config_.gate_kind == GateKind::kScalar ? 1 : d);
}

bool BranchGates::AdoptSharedMatrices(int b) {
  BranchParameters& branch = branches_[static_cast<size_t>(b)];
  for (int below = b - 2; config_.gate_shared && below >= 0; below -= 2) {
    const BranchParameters& owner = branches_[static_cast<size_t>(below)];
    if (!owner.gate_bias.defined()) continue;
    branch.gate_weight = owner.gate_weight;
    branch.gate_down = owner.gate_down;
    branch.gate_up = owner.gate_up;
    return true;
  }
  return false;
}

void BranchGates::Refresh(at::ScalarType dtype) {
  // A shared matrix is cast for each branch, so that its gradient is summed in f32.
  const auto cast = [&](const Tensor& t) { return t.defined() ? t.to(dtype) : Tensor(); };
  compute_ = branches_;
  for (BranchParameters& b : compute_) {
    b.skip_down = cast(b.skip_down);
    b.skip_up = cast(b.skip_up);
    b.gate_down = cast(b.gate_down);
    b.gate_up = cast(b.gate_up);
    if (config_.gate_kind == GateKind::kVector) b.gate_weight = cast(b.gate_weight);
  }
}

BranchDecision BranchGates::Decide(int branch, const Tensor& h, int64_t batch, const Tensor& starts,
                                   const Decisions& decisions, const BranchDecision& before,
                                   ForwardTrace* trace) const {
  const auto b = static_cast<size_t>(branch);
  BranchDecision result;
  Tensor decided_z;
  if (config_.HasGate(branch) && (DecidesByGates(decisions) || config_.gate_product != GateProduct::kNone)) {
    result.z = Z(branch, h, trace, &result.g);
    if (config_.gate_product == GateProduct::kNone) result.g = Tensor();
    if (DecidesByGates(decisions)) Threshold(result.z.detach(), branch, batch, starts, decisions, &result, &decided_z);
  } else if (config_.gated[b] && DecidesByGates(decisions)) {  // layer scope
    result = before;
    result.g = Tensor();
    if (trace != nullptr) decided_z = trace->z[b - 1];
  }
  if (decisions.kind == Decisions::Kind::kMask) FollowMask(branch, h, batch, starts, decisions, &result);
  if (trace != nullptr && decided_z.defined()) trace->z[b] = decided_z;
  if (trace != nullptr && result.keep.defined()) trace->keep[b] = result.keep.cpu();
  return result;
}

Tensor BranchGates::Input(int branch, const Tensor& h, const BranchDecision& decision) const {
  if (config_.gate_product != GateProduct::kInput || !decision.g.defined()) return h;
  const Tensor gated = (h * decision.g).to(h.scalar_type());
  if (!decision.keep.defined() || KindOfBranch(branch) == BranchKind::kMlp) return gated;
  return at::where(decision.keep.unsqueeze(1) > 0.5, gated, h);
}

Tensor BranchGates::AddResidual(int branch, const Tensor& x, const Tensor& h, const Tensor& out,
                                const BranchDecision& decision) const {
  const bool multiply = config_.gate_product == GateProduct::kOutput && decision.g.defined();
  const Tensor gated = multiply ? (out * decision.g).to(out.scalar_type()) : out;
  if (!decision.keep.defined()) return x + gated;
  const BranchParameters& p = compute(branch);
  const Tensor skip = p.skip_down.defined() ? at::linear(at::linear(h, p.skip_down), p.skip_up) : Tensor();
  return MixBranch(x, gated, skip, p.skip_bias, decision.z, decision.keep, decision.slope);
}

std::vector<std::string> BranchGates::RemoveUngated() {
  std::vector<std::string> gone;
  bool has_gates[2] = {false, false};  // attention, MLP
  for (int b = 0; b < static_cast<int>(branches_.size()); ++b) {
    has_gates[b % 2] |= config_.HasGate(b);
    if (config_.gated[static_cast<size_t>(b)]) continue;
    gone.push_back(BranchPrefix(b));
    branches_[static_cast<size_t>(b)] = BranchParameters();
  }
  for (int kind = 0; kind < 2; ++kind) {
    if (config_.gate_shared && !has_gates[kind]) gone.push_back(GateMatrixPrefix(config_, kind));
  }
  return gone;
}

Tensor BranchGates::Z(int branch, const Tensor& h, ForwardTrace* trace, Tensor* g) const {
  const BranchParameters& p = compute(branch);
  if (config_.gate_kind == GateKind::kScalar) {
    const Tensor z = GateLogit(h, p.gate_weight, p.gate_bias);
    *g = at::sigmoid(z).unsqueeze(1);
    if (trace != nullptr) Note(branch, *g, *trace);
    return z;
  }
  const Tensor input = h.detach();
  Tensor logits;
  if (config_.gate_kind == GateKind::kVector) {
    logits = at::linear(input, p.gate_weight);
  } else {
    const Tensor inner = at::linear(input, p.gate_down);
    logits = at::linear(config_.gate_kind == GateKind::kMlp ? at::silu(inner) : inner, p.gate_up);
  }
  *g = at::sigmoid(logits.to(at::kFloat) + p.gate_bias);
  if (trace != nullptr) Note(branch, *g, *trace);
  const Tensor importance = g->mean(1).clamp(1e-6, 1.0 - 1e-6);
  const Tensor z = at::logit(importance);
  if (config_.gate_kind != GateKind::kVector) return z;
  // Vector gates decide by the distilled head. Its straight-through gradient would pull it away from the gate it
  // stands for, so it learns by distillation only, and the gate gets the decision's gradient: forward value of the
  // head, derivative of the gate.
  const Tensor head = GateLogit(h, p.decision_weight, p.decision_bias);
  if (trace != nullptr) {
    const Tensor bce = at::binary_cross_entropy_with_logits(head, importance.detach());
    trace->head_loss = trace->head_loss + bce.cpu() / NumGates({});
  }
  return head.detach() + (z - z.detach());
}

void BranchGates::Note(int branch, const Tensor& g, ForwardTrace& trace) const {
  trace.gate_mean[static_cast<size_t>(branch)] = g.detach().mean().item<double>();
  if (penalty_.is_zero() || !penalty_.layers[static_cast<size_t>(BranchLayer(branch))]) return;
  Tensor sum = at::zeros({}, g.options());
  if (penalty_.l2 != 0) sum = sum + penalty_.l2 * g.square().mean();
  if (penalty_.l1 != 0) sum = sum + penalty_.l1 * g.mean();
  if (penalty_.kl != 0) {
    const double t = penalty_.target;
    const Tensor rate = g.mean().clamp(1e-6, 1.0 - 1e-6);
    sum = sum + penalty_.kl * (t * (std::log(t) - rate.log()) + (1.0 - t) * (std::log(1.0 - t) - (1.0 - rate).log()));
  }
  trace.penalty = trace.penalty + sum.cpu() / NumGates(penalty_.layers);
}

int BranchGates::NumGates(const std::vector<bool>& layers) const {
  int count = 0;
  for (int b = 0; b < static_cast<int>(branches_.size()); ++b) {
    count += config_.HasGate(b) && (layers.empty() || layers[static_cast<size_t>(BranchLayer(b))]) ? 1 : 0;
  }
  return count;
}

void BranchGates::FollowMask(int branch, const Tensor& h, int64_t batch, const Tensor& starts,
                             const Decisions& decisions, BranchDecision* decision) const {
  const auto b = static_cast<size_t>(branch);
  const size_t branches = config_.gated.size();
  const bool each = decisions.mask.size() > branches;
  GS_CHECK(decisions.mask.size() == (each ? static_cast<size_t>(batch) * branches : branches));
  const Tensor runs = at::empty({batch, 1}, at::kByte);
  for (int64_t s = 0; s < batch; ++s) {
    runs.data_ptr<uint8_t>()[s] = decisions.mask[(each ? static_cast<size_t>(s) * branches : 0) + b];
  }
  const int64_t length = h.size(0) / batch;
  const Tensor early = Positions(batch, length, starts) < config_.always_run_positions;
  const Tensor keep = (runs > 0).expand({batch, length}).reshape({-1}).logical_or(early);
  if (keep.all().item<bool>()) return;
  decision->keep = keep.to(at::kFloat).to(h.device());
  decision->slope = at::zeros_like(decision->keep);
}

void BranchGates::Threshold(const Tensor& z_of_device, int branch, int64_t batch, const Tensor& starts,
                            const Decisions& decisions, BranchDecision* decision, Tensor* decided_z) const {
  const Tensor z = z_of_device.cpu().contiguous();
  const int64_t rows = z.size(0);
  const int64_t length = rows / batch;
  const Tensor position = Positions(batch, length, starts);
  Tensor keep = at::ones({rows}, at::kFloat);
  Tensor slope = at::zeros({rows}, at::kFloat);
  *decided_z = at::empty({rows}, at::kFloat);
  const float* logits = z.data_ptr<float>();
  float* decided = decided_z->data_ptr<float>();
  Random noise(decisions.noise_seed, Stream::kNoise, decisions.noise_index * 4096 + static_cast<uint64_t>(branch));
  for (int64_t r = 0; r < rows; ++r) {
    const double n = decisions.noise > 0 ? decisions.noise * noise.Logistic() : 0.0;
    decided[r] = static_cast<float>(static_cast<double>(logits[r]) + n);
  }
  std::vector<float> thresholds = decisions.thresholds;
  if (decisions.kind == Decisions::Kind::kQuantile) {
    for (int64_t s = 0; s < batch; ++s) {
      float& share = thresholds[static_cast<size_t>(s)];
      share = Quantile(decided + s * length, config_.always_run_positions, length, static_cast<double>(share));
    }
  }
  const bool by_importance = decisions.kind == Decisions::Kind::kImportance;
  for (int64_t r = 0; r < rows; ++r) {
    if (position.data_ptr<int32_t>()[r] < config_.always_run_positions) {
      if (!by_importance) decided[r] = std::numeric_limits<float>::infinity();  // no threshold skips it
      continue;
    }
    if (by_importance) {
      const float threshold = thresholds[static_cast<size_t>(branch)];
      const float importance = 1.0F / (1.0F + std::exp(-logits[r]));
      keep.data_ptr<float>()[r] = threshold < 0.0F || importance > threshold ? 1.0F : 0.0F;
      continue;
    }
    const double tau = static_cast<double>(thresholds[static_cast<size_t>(r / length)]);
    if (std::isinf(tau)) continue;
    // The slope is that of the decision's expectation under the noise, so it is taken at the noise-free logit.
    const double s = 1.0 / (1.0 + std::exp(-(static_cast<double>(logits[r]) - tau) / decisions.temperature));
    if (decisions.straight_through) {
      slope.data_ptr<float>()[r] = static_cast<float>(s * (1.0 - s) / decisions.temperature);
    }
    keep.data_ptr<float>()[r] =
        decisions.soft ? static_cast<float>(s) : (static_cast<double>(decided[r]) > tau ? 1.0F : 0.0F);
  }
  decision->keep = keep.to(z_of_device.device());
  decision->slope = slope.to(z_of_device.device());
}

}  // namespace gateskip::train
