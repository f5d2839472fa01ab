// SPDX-License-Identifier: Apache-2.0
#include "train/branch_gates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gate/branch.h"
#include "train/ops.h"

namespace gateskip::train {
namespace {

constexpr float kGateBiasStart = 5.0F;  // arXiv 2510.13876: gates start open

// The value that `share` of the sequence's rows do not exceed, rows that always run left out; -infinity for none.
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

std::string BranchPrefix(int branch) {
  return fmt::format("blk.{}.{}.", BranchLayer(branch),
                     KindOfBranch(branch) == BranchKind::kAttention ? "attn" : "mlp");
}

BranchGates::BranchGates(const AdapterConfig& config, uint64_t seed, const AddParameter& add) : config_(config) {
  const int64_t d = config_.hidden_size;
  branches_.resize(2 * static_cast<size_t>(config_.num_layers));
  for (int b = 0; b < 2 * config_.num_layers; ++b) {
    if (!config_.gated[static_cast<size_t>(b)]) continue;
    const std::string p = BranchPrefix(b);
    BranchParameters& branch = branches_[static_cast<size_t>(b)];
    const Random random(seed, Stream::kInit, static_cast<uint64_t>(b));
    const int64_t width = config_.gate_kind == GateKind::kScalar ? 1 : d;
    switch (config_.gate_kind) {
      case GateKind::kScalar:
        branch.gate_weight = add(p + "gate.weight", at::zeros({d}, at::kFloat), ParameterGroup::kGateWeight);
        break;
      case GateKind::kLowRank:
        branch.gate_down =
            add(p + "gate.down", NormalTensor({config_.gate_rank, d}, 0.01, random), ParameterGroup::kGateWeight);
        branch.gate_up = add(p + "gate.up", at::zeros({d, config_.gate_rank}, at::kFloat), ParameterGroup::kGateWeight);
        break;
      case GateKind::kVector:
        branch.gate_weight = add(p + "gate.weight", NormalTensor({d, d}, 0.01, random), ParameterGroup::kGateWeight);
        branch.decision_weight = add(p + "decision.weight", at::zeros({d}, at::kFloat), ParameterGroup::kGateWeight);
        branch.decision_bias =
            add(p + "decision.bias", at::full({1}, kGateBiasStart, at::kFloat), ParameterGroup::kGateBias);
        break;
    }
    branch.gate_bias = add(p + "gate.bias", at::full({width}, kGateBiasStart, at::kFloat), ParameterGroup::kGateBias);
    if (config_.skip_rank >= 0) {
      branch.skip_bias = add(p + "skip.bias", at::zeros({d}, at::kFloat), ParameterGroup::kSkip);
    }
    if (config_.skip_rank > 0) {
      branch.skip_down = add(p + "skip.down", at::zeros({config_.skip_rank, d}, at::kFloat), ParameterGroup::kSkip);
      branch.skip_up = add(p + "skip.up", at::zeros({d, config_.skip_rank}, at::kFloat), ParameterGroup::kSkip);
    }
  }
}

void BranchGates::Refresh(at::ScalarType dtype) {
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

void BranchGates::AddPenalty(int branch, const Tensor& multiplier, ForwardTrace& trace) const {
  trace.gate_mean[static_cast<size_t>(branch)] = multiplier.detach().mean().item<double>();
  const auto layer = static_cast<size_t>(BranchLayer(branch));
  if ((penalty_.l2 == 0 && penalty_.l1 == 0 && penalty_.kl == 0) || !penalty_.layers[layer]) return;
  int penalised = 0;
  for (size_t b = 0; b < branches_.size(); ++b) {
    penalised += branches_[b].gate_bias.defined() && penalty_.layers[b / 2] ? 1 : 0;
  }
  Tensor sum = at::zeros({}, multiplier.options());
  if (penalty_.l2 != 0) sum = sum + penalty_.l2 * multiplier.square().mean();
  if (penalty_.l1 != 0) sum = sum + penalty_.l1 * multiplier.mean();
  if (penalty_.kl != 0) {
    const double t = penalty_.target;
    const Tensor rate = multiplier.mean().clamp(1e-6, 1.0 - 1e-6);
    sum = sum + penalty_.kl * (t * (std::log(t) - rate.log()) + (1.0 - t) * (std::log(1.0 - t) - (1.0 - rate).log()));
  }
  trace.penalty = trace.penalty + sum.cpu() / penalised;
}

Tensor BranchGates::Z(int branch, const Tensor& h, ForwardTrace* trace, Tensor* multiplier) const {
  const BranchParameters& p = compute(branch);
  if (!p.gate_bias.defined()) return {};
  if (config_.gate_kind == GateKind::kScalar) {
    Tensor z = GateLogit(h, p.gate_weight, p.gate_bias);
    *multiplier = at::sigmoid(z).unsqueeze(1);
    if (trace != nullptr) AddPenalty(branch, *multiplier, *trace);
    return z;
  }
  const Tensor input = h.detach();
  Tensor logits = config_.gate_kind == GateKind::kLowRank ? at::linear(at::linear(input, p.gate_down), p.gate_up)
                                                          : at::linear(input, p.gate_weight);
  *multiplier = at::sigmoid(logits.to(at::kFloat) + p.gate_bias);
  if (trace != nullptr) AddPenalty(branch, *multiplier, *trace);
  const Tensor importance = multiplier->mean(1).clamp(1e-6, 1.0 - 1e-6);
  if (config_.gate_kind == GateKind::kLowRank) return at::logit(importance);
  // Vector gates decide by the distilled head. Its straight-through gradient would pull it away from the gate it
  // stands for, so it learns by distillation only, and the gate gets the decision's gradient: forward value of the
  // head, derivative of the gate.
  const Tensor head = GateLogit(h, p.decision_weight, p.decision_bias);
  if (trace != nullptr) {
    trace->head_loss = trace->head_loss + at::binary_cross_entropy_with_logits(head, importance.detach());
  }
  const Tensor z = at::logit(importance);
  return head.detach() + (z - z.detach());
}

KeepSlope BranchGates::Decide(const Tensor& z_of_device, int branch, int64_t batch, const Tensor& starts,
                              const Decisions& decisions, Tensor* decided_z) const {
  const Tensor z = z_of_device.cpu().contiguous();
  const int64_t rows = z.size(0);
  const int64_t length = rows / batch;
  KeepSlope result{at::ones({rows}, at::kFloat), at::zeros({rows}, at::kFloat)};
  *decided_z = at::empty({rows}, at::kFloat);
  const float* logits = z.data_ptr<float>();
  const int32_t* start = starts.defined() ? starts.data_ptr<int32_t>() : nullptr;
  float* keep = result.keep.data_ptr<float>();
  float* slope = result.slope.data_ptr<float>();
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
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t position = r % length - (start == nullptr ? 0 : start[r]);
    if (position < config_.always_run_positions) {
      // No threshold skips it.
      if (decisions.kind != Decisions::Kind::kImportance) decided[r] = std::numeric_limits<float>::infinity();
      continue;
    }
    if (decisions.kind == Decisions::Kind::kImportance) {
      const float threshold = thresholds[static_cast<size_t>(branch)];
      const float importance = 1.0F / (1.0F + std::exp(-logits[r]));
      keep[r] = threshold < 0.0F || importance > threshold ? 1.0F : 0.0F;
      continue;
    }
    const double tau = static_cast<double>(thresholds[static_cast<size_t>(r / length)]);
    if (std::isinf(tau)) continue;
    // The slope is that of the decision's expectation under the noise, so it is taken at the noise-free logit.
    const double s = 1.0 / (1.0 + std::exp(-(static_cast<double>(logits[r]) - tau) / decisions.temperature));
    if (decisions.straight_through) slope[r] = static_cast<float>(s * (1.0 - s) / decisions.temperature);
    keep[r] = decisions.soft ? static_cast<float>(s) : (static_cast<double>(decided[r]) > tau ? 1.0F : 0.0F);
  }
  result.keep = result.keep.to(z_of_device.device());
  result.slope = result.slope.to(z_of_device.device());
  return result;
}

KeepSlope BranchGates::LeaveOut(int64_t batch, int64_t length, const Tensor& starts) const {
  Tensor position = at::arange(length, at::kInt).repeat({batch});
  if (starts.defined()) position = position - starts;
  return {(position < config_.always_run_positions).to(at::kFloat), at::zeros({batch * length}, at::kFloat)};
}

}  // namespace gateskip::train
