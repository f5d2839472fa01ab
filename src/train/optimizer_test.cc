// SPDX-License-Identifier: Apache-2.0
// AdamW against its definition in double precision, with a rate per group, decay of matrices only, scaled gradients and
// absent ones; and the learning-rate schedule.
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/testing/gradient_check.h"

namespace gateskip::train {
namespace {

using testing::Normal;

TrainOptions Options() {
  TrainOptions options;
  options.gate_learning_rate = 0.01;
  options.gate_bias_learning_rate = 0.02;
  options.skip_learning_rate = 0.005;
  options.lora_learning_rate = 0.04;
  options.base_learning_rate = 0.03;
  options.beta1 = 0.8;
  options.beta2 = 0.9;
  options.weight_decay = 0.5;
  return options;
}

double PeakRate(ParameterGroup group) {
  switch (group) {
    case ParameterGroup::kGateWeight:
      return 0.01;
    case ParameterGroup::kGateBias:
      return 0.02;
    case ParameterGroup::kSkip:
      return 0.005;
    case ParameterGroup::kLora:
      return 0.04;
    case ParameterGroup::kBase:
      return 0.03;
  }
  return 0;
}

std::vector<Parameter> Parameters() {
  const auto leaf = [](at::IntArrayRef shape, uint64_t seed) { return Normal(shape, seed).set_requires_grad(true); };
  return {{"gate.weight", leaf({7}, 1), ParameterGroup::kGateWeight},
          {"gate.down", leaf({2, 5}, 2), ParameterGroup::kGateWeight},
          {"gate.bias", leaf({1}, 3), ParameterGroup::kGateBias},
          {"skip.bias", leaf({4}, 4), ParameterGroup::kSkip},
          {"skip.up", leaf({4, 3}, 5), ParameterGroup::kSkip},
          {"lora_a", leaf({3, 6}, 6), ParameterGroup::kLora},
          {"blk.0.attn_q.weight", leaf({300, 311}, 7), ParameterGroup::kBase}};
}

void SetGradients(std::vector<Parameter>& parameters, uint64_t seed, float scale = 1.0F) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].value.mutable_grad() = Normal(parameters[i].value.sizes(), seed * 100 + i) * scale;
  }
}

// arXiv 1711.05101, algorithm 2, with bias correction by the number of updates.
struct Reference {
  std::vector<double> w, m, v;

  explicit Reference(const Tensor& start) {
    for (int64_t i = 0; i < start.numel(); ++i) w.push_back(start.data_ptr<float>()[i]);
    m.resize(w.size());
    v.resize(w.size());
  }
  void Step(const Tensor& gradient, double lr, double decay, double scale, int t) {
    const Tensor g = gradient.contiguous();
    for (size_t i = 0; i < w.size(); ++i) {
      const double gi = scale * static_cast<double>(g.data_ptr<float>()[i]);
      m[i] = 0.8 * m[i] + 0.2 * gi;
      v[i] = 0.9 * v[i] + 0.1 * gi * gi;
      const double m_hat = m[i] / (1 - std::pow(0.8, t));
      const double v_hat = v[i] / (1 - std::pow(0.9, t));
      w[i] -= lr * (m_hat / (std::sqrt(v_hat) + 1e-8) + decay * w[i]);
    }
  }
};

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() && std::memcmp(a.data_ptr<float>(), b.data_ptr<float>(), a.nbytes()) == 0;
}

TEST(AdamW, FollowsItsDefinition) {
  std::vector<Parameter> parameters = Parameters();
  AdamW optimizer(parameters, Options());
  std::vector<Reference> references;
  for (const Parameter& p : parameters) references.emplace_back(p.value.detach());
  constexpr int kSteps = 6;
  const double rates[kSteps] = {0.25, 0.5, 1, 1, 0.75, 0.1};
  const double scales[kSteps] = {1, 0.125, 1, 0.3, 1, 1};
  for (int step = 0; step < kSteps; ++step) {
    SetGradients(parameters, static_cast<uint64_t>(step + 1));
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& p = parameters[i];
      references[i].Step(p.value.grad(), rates[step] * PeakRate(p.group), p.value.dim() > 1 ? 0.5 : 0.0, scales[step],
                         step + 1);
    }
    optimizer.Step(rates[step], scales[step]);
    for (size_t i = 0; i < parameters.size(); ++i) {
      ASSERT_FALSE(parameters[i].value.grad().defined()) << "a step clears the gradients";
      // Per step a weight of at most 4 rounds once, and an update of at most 3 rates carries 32 roundings: 1 - beta in
      // f32 is off by up to 10 of them, the moments, the root and the quotient by the rest.
      const double tolerance = (step + 1) * 0x1p-24 * (4 + 32 * 3 * PeakRate(parameters[i].group));
      const float* w = parameters[i].value.data_ptr<float>();
      for (size_t k = 0; k < references[i].w.size(); ++k) {
        ASSERT_NEAR(static_cast<double>(w[k]), references[i].w[k], tolerance)
            << parameters[i].name << " element " << k << " step " << step;
      }
    }
  }
  EXPECT_EQ(optimizer.updates(), kSteps);
}

TEST(AdamW, DecayIsDecoupledAndOfMatricesOnly) {
  std::vector<Parameter> parameters = Parameters();
  const std::vector<Parameter> start = Parameters();
  AdamW optimizer(parameters, Options());
  for (Parameter& p : parameters) p.value.mutable_grad() = at::zeros_like(p.value);
  optimizer.Step(0.5, 1.0);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    if (p.value.dim() == 1) {
      EXPECT_TRUE(SameBits(p.value, start[i].value)) << p.name;
    } else {  // not through the moments, which a zero gradient leaves at zero
      const Tensor expected = start[i].value.detach().to(at::kDouble) * (1 - 0.5 * PeakRate(p.group) * 0.5);
      testing::ExpectNear(p.value, expected, 4 * 0x1p-24, p.name);
    }
    EXPECT_EQ(optimizer.first_moments()[i].abs().sum().item<float>(), 0) << p.name;
  }
}

TEST(AdamW, GradientScaleIsThatOfTheGradients) {
  std::vector<Parameter> scaled = Parameters();
  std::vector<Parameter> small = Parameters();
  AdamW a(scaled, Options());
  AdamW b(small, Options());
  for (uint64_t step = 1; step <= 3; ++step) {
    SetGradients(scaled, step);
    SetGradients(small, step, 0.25F);  // a power of two: exact
    a.Step(1, 0.25);
    b.Step(1, 1);
  }
  for (size_t i = 0; i < scaled.size(); ++i) {
    EXPECT_TRUE(SameBits(scaled[i].value, small[i].value));
    EXPECT_TRUE(SameBits(a.second_moments()[i], b.second_moments()[i]));
  }
}

TEST(AdamW, NormIsOverAllGradients) {
  std::vector<Parameter> parameters = Parameters();
  AdamW optimizer(parameters, Options());
  EXPECT_EQ(optimizer.GradientNorm(), 0) << "no gradients at all";
  parameters[0].value.mutable_grad() = at::full({7}, 2.0F);          // 28
  parameters[4].value.mutable_grad() = at::full({3, 4}, -3.0F).t();  // 108, not contiguous
  parameters[2].value.mutable_grad() = at::full({1}, 1e20F);         // whose square f32 does not hold
  EXPECT_DOUBLE_EQ(optimizer.GradientNorm(), static_cast<double>(1e20F));
  parameters[2].value.mutable_grad() = at::full({1}, 8.0F);  // 64
  EXPECT_DOUBLE_EQ(optimizer.GradientNorm(), std::sqrt(200.0));
  parameters[5].value.mutable_grad() = at::full({3, 6}, std::nanf(""));
  EXPECT_TRUE(std::isnan(optimizer.GradientNorm()));
  optimizer.ClearGradients();
  EXPECT_EQ(optimizer.GradientNorm(), 0);
}

TEST(AdamW, WithoutAGradientNothingOfAParameterChanges) {
  std::vector<Parameter> parameters = Parameters();
  AdamW optimizer(parameters, Options());
  SetGradients(parameters, 1);
  optimizer.Step(1, 1);
  const Tensor value = parameters[1].value.detach().clone();
  const Tensor first = optimizer.first_moments()[1].clone();
  const Tensor second = optimizer.second_moments()[1].clone();
  const Tensor other = parameters[0].value.detach().clone();
  SetGradients(parameters, 2);
  parameters[1].value.mutable_grad() = Tensor();
  optimizer.Step(1, 1);
  EXPECT_TRUE(SameBits(parameters[1].value, value)) << "not even decayed";
  EXPECT_TRUE(SameBits(optimizer.first_moments()[1], first));
  EXPECT_TRUE(SameBits(optimizer.second_moments()[1], second));
  EXPECT_FALSE(SameBits(parameters[0].value, other));
}

TEST(AdamW, GoesOnFromMomentsAndCount) {
  std::vector<Parameter> straight = Parameters();
  std::vector<Parameter> resumed = Parameters();
  AdamW a(straight, Options());
  AdamW b(resumed, Options());
  for (uint64_t step = 1; step <= 2; ++step) {
    SetGradients(straight, step);
    a.Step(1, 1);
  }
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < straight.size(); ++i) {
    resumed[i].value.copy_(straight[i].value);
    b.first_moments()[i].copy_(a.first_moments()[i]);
    b.second_moments()[i].copy_(a.second_moments()[i]);
  }
  b.set_updates(a.updates());
  SetGradients(straight, 3);
  SetGradients(resumed, 3);
  a.Step(1, 1);
  b.Step(1, 1);
  for (size_t i = 0; i < straight.size(); ++i) EXPECT_TRUE(SameBits(straight[i].value, resumed[i].value));
}

TEST(LearningRateAt, WarmsUpAndFollowsACosine) {
  TrainOptions options;
  options.steps = 110;
  options.warmup_steps = 10;
  options.final_learning_rate = 0.2;
  for (int step = 0; step < 10; ++step) EXPECT_DOUBLE_EQ(LearningRateAt(options, step), (step + 1) / 10.0);
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 10), 1.0);
  EXPECT_NEAR(LearningRateAt(options, 60), 0.6, 1e-12) << "half way between 1 and 0.2";
  EXPECT_NEAR(LearningRateAt(options, 35), 0.2 + 0.4 * (1 + std::sqrt(0.5)), 1e-12);
  for (int step = 11; step < 110; ++step) EXPECT_LT(LearningRateAt(options, step), LearningRateAt(options, step - 1));
  // 1 - cos(x) <= x^2 / 2: the last of the 100 steps is within 0.8 / 4 (pi / 100)^2 of the end value.
  EXPECT_NEAR(LearningRateAt(options, 109), 0.2, 0.2 * (M_PI / 100) * (M_PI / 100));
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 110), 0.2);
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 1000), 0.2);
}

TEST(LearningRateAt, EdgesOfTheSchedule) {
  TrainOptions options;
  options.steps = 10;
  options.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 0), 1.0);
  options.warmup_steps = 30;  // longer than the run
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 9), 10 / 30.0);
  options.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(LearningRateAt(options, 9), 1.0);
  EXPECT_TRUE(std::isfinite(LearningRateAt(options, 10)));
  options.final_learning_rate = 1.0;
  options.warmup_steps = 2;
  for (int step = 2; step < 12; ++step) EXPECT_DOUBLE_EQ(LearningRateAt(options, step), 1.0);
}

}  // namespace
}  // namespace gateskip::train
