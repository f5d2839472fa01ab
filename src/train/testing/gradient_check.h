// SPDX-License-Identifier: Apache-2.0
// Holds a differentiable f32 function against two witnesses: the same function written plainly in double precision
// (LibTorch differentiates it), and central finite differences of its own forward pass.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <vector>

namespace gateskip::train::testing {

using at::Tensor;
using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// A value of these tests is a chain of at most two dot products of up to 24 terms, an exponential (2e-7, 4 units) and a
// handful of other steps: fewer than 64 roundings of 2^-24 of the largest magnitude that occurs.
constexpr double kRounding = 64 * 0x1p-24;

inline Tensor Normal(at::IntArrayRef shape, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator, at::TensorOptions(at::kFloat));
}

inline void ExpectNear(const Tensor& found, const Tensor& expected, double relative, const std::string& what) {
  ASSERT_TRUE(found.defined()) << what;
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  const double scale = expected.numel() == 0 ? 0 : expected.detach().abs().max().to(at::kDouble).item<double>();
  const double error = (found.detach().to(at::kDouble) - expected.detach().to(at::kDouble)).abs().max().item<double>();
  EXPECT_LE(error, relative * std::max(scale, 1e-3)) << what;  // a NaN fails
}

// `function` of f32 `inputs` and `plain` of the same in f64. Derivatives by every input are compared.
// `finite_differences` is false where the derivative is by design not that of the forward pass.
inline void CheckGradients(const Function& function, const Function& plain, const std::vector<Tensor>& inputs,
                           bool finite_differences = true) {
  std::vector<Tensor> leaves;
  std::vector<Tensor> doubles;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().set_requires_grad(true));
    doubles.push_back(input.detach().to(at::kDouble).set_requires_grad(true));
  }
  const Tensor out = function(leaves);
  const Tensor expected = plain(doubles);
  ExpectNear(out, expected, kRounding, "forward");
  const Tensor weights = Normal(out.sizes(), 99);  // of a scalar that depends on every output in its own way
  out.backward(weights);
  expected.backward(weights.to(at::kDouble));
  for (size_t i = 0; i < inputs.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "input " << i);
    ASSERT_TRUE(leaves[i].grad().defined());
    ExpectNear(leaves[i].grad(), doubles[i].grad(), 2 * kRounding, "gradient");  // forward, then backward
    if (!finite_differences) continue;
    at::NoGradGuard no_grad;
    // Steps h and 2h: D(h) = f' + c h^2 + ..., so D(2h) - D(h) is three times the truncation error of D(h). Each output
    // carries some 8 roundings; different outputs round independently, so the sum's error grows with the 2-norm.
    constexpr double kStep = 0x1p-7;
    const double rounding = 8 * 0x1p-24 * (out * weights).norm().item<double>() / kStep;
    std::vector<Tensor> moved;
    for (const Tensor& input : inputs) moved.push_back(input.detach().clone());
    float* values = moved[i].data_ptr<float>();
    for (int64_t k = 0; k < moved[i].numel(); ++k) {
      const float start = values[k];
      const auto at_offset = [&](double offset) {
        values[k] = static_cast<float>(static_cast<double>(start) + offset);
        const Tensor result = function(moved).to(at::kDouble).clone();
        values[k] = start;
        return result;
      };
      const auto slope = [&](double h) {
        const double width = static_cast<double>(static_cast<float>(static_cast<double>(start) + h)) -
                             static_cast<double>(static_cast<float>(static_cast<double>(start) - h));
        return ((at_offset(h) - at_offset(-h)) * weights).sum().item<double>() / width;
      };
      const double here = slope(kStep);
      const double truncation = std::abs(slope(2 * kStep) - here);
      const auto found = static_cast<double>(leaves[i].grad().data_ptr<float>()[k]);
      EXPECT_NEAR(found, here, truncation + rounding + 2 * kRounding * std::abs(here)) << "element " << k;
    }
  }
}

}  // namespace gateskip::train::testing
