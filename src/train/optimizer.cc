// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "train/row_math.h"

namespace gateskip::train {
namespace {

// Work is cut into pieces of this many elements, whatever the number of threads: sums are then the same on any.
constexpr int64_t kPiece = 1 << 15;

int64_t NumPieces(int64_t n) { return (n + kPiece - 1) / kPiece; }

double SquareSum(const Tensor& x) {
  if (!x.is_cpu()) return x.to(at::kDouble).square().sum().item<double>();
  const int64_t n = x.numel();
  std::vector<double> partial(static_cast<size_t>(NumPieces(n)));
  at::parallel_for(0, NumPieces(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kPiece;
      partial[static_cast<size_t>(piece)] =
          SquareSumRow(x.data_ptr<float>() + first, static_cast<size_t>(std::min(kPiece, n - first)));
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

void Update(const AdamWStep& a, const Tensor& grad, Tensor& value, Tensor& m, Tensor& v) {
  if (!value.is_cpu()) {
    const Tensor g = grad * a.gradient_scale;
    m.mul_(a.beta1).add_(g, 1.0F - a.beta1);
    v.mul_(a.beta2).addcmul_(g, g, 1.0F - a.beta2);
    value.sub_(a.decay * value + a.step * m / (v.sqrt() * a.root + a.epsilon));
    return;
  }
  const int64_t n = grad.numel();
  at::parallel_for(0, NumPieces(n), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kPiece;
    AdamWRow(a, grad.data_ptr<float>() + first, value.data_ptr<float>() + first, m.data_ptr<float>() + first,
             v.data_ptr<float>() + first, static_cast<size_t>(std::min(end * kPiece, n) - first));
  });
}

}  // namespace

double LearningRateAt(const TrainOptions& options, int step) {
  if (step < options.warmup_steps) return static_cast<double>(step + 1) / options.warmup_steps;
  const double span = std::max(1, options.steps - options.warmup_steps);
  const double t = std::min(1.0, (step - options.warmup_steps) / span);
  double left = 1.0;  // of the way from the peak to the final rate
  if (options.schedule == LearningRateSchedule::kCosine) left = 0.5 * (1.0 + std::cos(M_PI * t));
  if (options.schedule == LearningRateSchedule::kLinear) left = 1.0 - t;
  return options.final_learning_rate + (1.0 - options.final_learning_rate) * left;
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
    case ParameterGroup::kBase:
      return options_.base_learning_rate;
  }
  return 0;
}

double AdamW::GradientNorm() const {
  double sum = 0;
  for (const Parameter& p : parameters_) {
    if (p.value.grad().defined()) sum += SquareSum(p.value.grad().contiguous());
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
  for (size_t n = 0; n < parameters_.size(); ++n) {
    Parameter& p = parameters_[n];
    // A parameter without a gradient in this step (a dense step has none for gates) keeps its moments.
    if (!p.value.grad().defined()) continue;
    const double lr = rate * PeakRate(p.group);
    const AdamWStep step = {.beta1 = static_cast<float>(options_.beta1),
                            .beta2 = static_cast<float>(options_.beta2),
                            .gradient_scale = static_cast<float>(gradient_scale),
                            .decay = static_cast<float>(p.value.dim() > 1 ? lr * options_.weight_decay : 0.0),
                            .step = static_cast<float>(lr / correction1),
                            .root = static_cast<float>(1.0 / std::sqrt(correction2)),
                            .epsilon = static_cast<float>(options_.epsilon)};
    Update(step, p.value.grad().contiguous(), p.value, m_[n], v_[n]);
    p.value.mutable_grad() = Tensor();  // one after the other: the gradients of a whole model are large
  }
  ClearGradients();
}

}  // namespace gateskip::train
