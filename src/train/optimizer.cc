// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace gateskip::train {

double LearningRateAt(const TrainOptions& options, int step) {
  if (step < options.warmup_steps) return static_cast<double>(step + 1) / options.warmup_steps;
  const double span = std::max(1, options.steps - options.warmup_steps);
  const double t = std::min(1.0, (step - options.warmup_steps) / span);
  return options.final_learning_rate + (1.0 - options.final_learning_rate) * 0.5 * (1.0 + std::cos(M_PI * t));
}

AdamW::AdamW(std::vector<Parameter>& parameters, const TrainOptions& options)
    : parameters_(parameters), options_(options) {
  for (const Parameter& p : parameters_) {
    m_.push_back(at::zeros_like(p.value, at::TensorOptions().requires_grad(false)));
    v_.push_back(at::zeros_like(p.value, at::TensorOptions().requires_grad(false)));
  }
}

double AdamW::PeakRate(ParameterGroup group) const {
  switch (group) {
    case ParameterGroup::kGateWeight:
      return options_.gate_learning_rate;
    case ParameterGroup::kGateBias:
      return options_.gate_bias_learning_rate;
    case ParameterGroup::kSkip:
      return options_.skip_learning_rate;
    case ParameterGroup::kLora:
      return options_.lora_learning_rate;
  }
  return 0;
}

double AdamW::GradientNorm() const {
  double sum = 0;
  for (const Parameter& p : parameters_) {
    if (!p.value.grad().defined()) continue;
    const Tensor grad = p.value.grad().contiguous();
    const float* g = grad.data_ptr<float>();
    for (int64_t i = 0; i < grad.numel(); ++i) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  }
  return std::sqrt(sum);
}

void AdamW::ClearGradients() {
  for (Parameter& p : parameters_) p.value.mutable_grad() = Tensor();
}

void AdamW::Step(double rate, double gradient_scale) {
  at::NoGradGuard no_grad;
  ++updates_;
  const double correction1 = 1.0 - std::pow(options_.beta1, static_cast<double>(updates_));
  const double correction2 = 1.0 - std::pow(options_.beta2, static_cast<double>(updates_));
  const auto b1 = static_cast<float>(options_.beta1);
  const auto b2 = static_cast<float>(options_.beta2);
  const auto scale = static_cast<float>(gradient_scale);
  for (size_t n = 0; n < parameters_.size(); ++n) {
    Parameter& p = parameters_[n];
    // A parameter without a gradient in this step (a dense step has none for gates) keeps its moments.
    if (!p.value.grad().defined()) continue;
    const Tensor grad = p.value.grad().contiguous();
    const double lr = rate * PeakRate(p.group);
    const auto step = static_cast<float>(lr / correction1);
    const auto root = static_cast<float>(1.0 / std::sqrt(correction2));
    const auto decay = static_cast<float>(p.value.dim() > 1 ? lr * options_.weight_decay : 0.0);
    const float* g = grad.data_ptr<float>();
    float* w = p.value.data_ptr<float>();
    float* m = m_[n].data_ptr<float>();
    float* v = v_[n].data_ptr<float>();
    for (int64_t i = 0; i < grad.numel(); ++i) {
      const float gi = g[i] * scale;
      m[i] = b1 * m[i] + (1.0F - b1) * gi;
      v[i] = b2 * v[i] + (1.0F - b2) * gi * gi;
      w[i] -= decay * w[i] + step * m[i] / (std::sqrt(v[i]) * root + 1e-8F);
    }
  }
  ClearGradients();
}

}  // namespace gateskip::train
