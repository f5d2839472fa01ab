// SPDX-License-Identifier: Apache-2.0
// The differentiable row operations: forward passes and gradients against plain double precision and finite
// differences, in the compute type within its rounding, and the same bits on any number of threads. Attention is in
// attention_test.cc.
#include "train/ops.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "train/testing/gradient_check.h"

namespace gateskip::train {
namespace {

using testing::CheckGradients;
using testing::ExpectNear;
using testing::kRounding;
using testing::Normal;
using Inputs = std::vector<Tensor>;

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.defined() &&
         std::memcmp(a.contiguous().data_ptr(), b.contiguous().data_ptr(), a.nbytes()) == 0;
}

TEST(RmsNorm, GradientByTheInput) {
  const Tensor weight = Normal({12}, 1);
  CheckGradients([&](const Inputs& in) { return RmsNorm(in[0], weight, 1e-2, at::kFloat); },
                 [&](const Inputs& in) {
                   const Tensor scale = (in[0].square().mean(1, true) + static_cast<double>(1e-2F)).rsqrt();
                   return in[0] * scale * weight.to(at::kDouble);
                 },
                 {Normal({5, 12}, 2)});
}

TEST(RmsNorm, GradientByTheWeight) {
  CheckGradients([&](const Inputs& in) { return RmsNorm(in[0], in[1], 1e-2, at::kFloat); },
                 [&](const Inputs& in) {
                   const Tensor scale = (in[0].square().mean(1, true) + static_cast<double>(1e-2F)).rsqrt();
                   return in[0] * scale * in[1];
                 },
                 {Normal({21, 12}, 2), Normal({12}, 1)});
}

TEST(RmsNorm, WorksInTheComputeType) {
  const Tensor weight = Normal({64}, 3);
  const Tensor x = Normal({9, 64}, 4).to(at::kBFloat16);
  const Tensor leaf = x.clone().set_requires_grad(true);
  const Tensor wide = x.to(at::kFloat).set_requires_grad(true);
  const Tensor out = RmsNorm(leaf, weight, 1e-5, at::kBFloat16);
  const Tensor expected = RmsNorm(wide, weight, 1e-5, at::kFloat);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_EQ(RmsNorm(wide, weight, 1e-5, at::kBFloat16).scalar_type(), at::kBFloat16) << "the stream is f32";
  // Computed in f32 and rounded once: the nearest bf16.
  EXPECT_TRUE(SameBits(out, expected.to(at::kBFloat16)));
  const Tensor weights = Normal({9, 64}, 5).to(at::kBFloat16);
  out.backward(weights);
  expected.backward(weights.to(at::kFloat));
  EXPECT_TRUE(SameBits(leaf.grad(), wide.grad().to(at::kBFloat16)));
}

TEST(TransposedProduct, EqualsThePlainProduct) {
  for (const auto& [rows, m, n] : {std::tuple{1, 1, 1}, {7, 6, 64}, {33, 13, 65}, {129, 70, 130}}) {
    const Tensor a = Normal({rows, m}, 50);
    const Tensor b = Normal({rows, n}, 51);
    const Tensor expected = at::mm(a.to(at::kDouble).t(), b.to(at::kDouble));
    // `rows` products and sums, each rounded once; the largest magnitude is at least that of one product.
    ExpectNear(TransposedProduct(a, b), expected, 2 * rows * 0x1p-24, "product");
  }
}

TEST(GateLogit, GradientByWeightAndBiasOnly) {
  const Tensor h = Normal({7, 10}, 6);
  CheckGradients([&](const Inputs& in) { return GateLogit(h, in[0], in[1]); },
                 [&](const Inputs& in) { return at::mv(h.to(at::kDouble), in[0]) + in[1]; },
                 {Normal({10}, 7), Normal({1}, 8)});
  const Tensor leaf = h.clone().set_requires_grad(true);
  const Tensor weight = Normal({10}, 7).set_requires_grad(true);
  GateLogit(leaf, weight, Normal({1}, 8)).sum().backward();
  EXPECT_TRUE(weight.grad().defined());
  EXPECT_FALSE(leaf.grad().defined()) << "h counts as detached";
}

Tensor RotatedPlainly(const Tensor& x, const Tensor& cosines, const Tensor& sines, bool interleaved) {
  const int64_t rotated = 2 * cosines.size(1);
  const Tensor head = x.slice(2, 0, rotated);
  const Tensor a = interleaved ? head.slice(2, 0, rotated, 2) : head.slice(2, 0, rotated / 2);
  const Tensor b = interleaved ? head.slice(2, 1, rotated, 2) : head.slice(2, rotated / 2, rotated);
  const Tensor c = cosines.to(at::kDouble);
  const Tensor s = sines.to(at::kDouble);
  const Tensor first = a * c - b * s;
  const Tensor second = a * s + b * c;
  const Tensor turned = interleaved ? at::stack({first, second}, 3).flatten(2) : at::cat({first, second}, 2);
  return at::cat({turned, x.slice(2, rotated)}, 2);
}

TEST(SplitHeads, GradientWithAndWithoutRotation) {
  constexpr int64_t kBatch = 2, kLength = 3, kHeads = 2, kHeadDim = 6;
  const auto split = [&](const Tensor& x) {
    return x.view({kBatch, kLength, kHeads, kHeadDim}).transpose(1, 2).reshape({kBatch * kHeads, kLength, kHeadDim});
  };
  const Tensor x = Normal({kBatch * kLength, kHeads * kHeadDim}, 9);
  CheckGradients(
      [&](const Inputs& in) {
        return SplitHeads(in[0], kBatch, kHeadDim, Tensor(), Tensor(), kernels::RopeLayout::kHalves);
      },
      [&](const Inputs& in) { return split(in[0]); }, {x});
  for (const int64_t half : {2, 3}) {  // a part of the head, and all of it
    const Tensor angles = Normal({kLength, half}, 10);
    for (const auto layout : {kernels::RopeLayout::kHalves, kernels::RopeLayout::kInterleaved}) {
      SCOPED_TRACE(::testing::Message() << "half " << half << " layout " << static_cast<int>(layout));
      CheckGradients(
          [&](const Inputs& in) { return SplitHeads(in[0], kBatch, kHeadDim, angles.cos(), angles.sin(), layout); },
          [&](const Inputs& in) {
            return RotatedPlainly(split(in[0]), angles.cos(), angles.sin(),
                                  layout == kernels::RopeLayout::kInterleaved);
          },
          {x});
    }
  }
}

TEST(GatedActivation, GradientOfBoth) {
  // Moderate values for the finite differences; the far ends against double precision only.
  const Tensor far = at::tensor({-90.0F, -30.0F, -9.0F, -0.75F, 0.0F, 0.75F, 9.0F, 30.0F}).view({1, 8});
  const auto check = [&](kernels::Activation activation, const std::function<Tensor(const Tensor&)>& plain) {
    const auto op = [&](const Inputs& in) { return GatedActivation(in[0], in[1], activation); };
    const auto reference = [&](const Inputs& in) { return plain(in[0]) * in[1]; };
    CheckGradients(op, reference, {Normal({4, 8}, 11) * 2, Normal({4, 8}, 12)});
    CheckGradients(op, reference, {far, Normal({1, 8}, 13)}, /*finite_differences=*/false);
  };
  check(kernels::Activation::kSilu, [](const Tensor& x) { return x * at::sigmoid(x); });
  check(kernels::Activation::kGeluTanh,
        [](const Tensor& x) { return 0.5 * x * (1.0 + at::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))); });
}

TEST(GatedActivation, WorksInTheComputeType) {
  const Tensor gate = Normal({3, 40}, 14).to(at::kBFloat16);
  const Tensor up = Normal({3, 40}, 15).to(at::kBFloat16);
  const Tensor out = GatedActivation(gate, up, kernels::Activation::kSilu);
  const Tensor wide = GatedActivation(gate.to(at::kFloat), up.to(at::kFloat), kernels::Activation::kSilu);
  EXPECT_TRUE(SameBits(out, wide.to(at::kBFloat16)));
}

constexpr int64_t kRows = 6, kCols = 5;
// Hard decisions and one that is neither, as the gradient checks of whole models use.
Tensor Keep() { return at::tensor({1.0F, 0.0F, 0.25F, 0.0F, 1.0F, 0.5F}); }
Tensor MixedPlainly(const Tensor& x, const Tensor& branch, const Tensor& skipped, const Tensor& keep) {
  return x + keep.unsqueeze(1) * branch + (1.0 - keep).unsqueeze(1) * skipped;
}

TEST(MixBranch, GradientByTheAddends) {
  const Tensor keep = Keep();
  const Tensor slope = at::zeros({kRows});
  const Inputs all = {Normal({kRows, kCols}, 16), Normal({kRows, kCols}, 17), Normal({kRows, kCols}, 18),
                      Normal({kCols}, 19)};
  const Tensor k = keep.to(at::kDouble);
  CheckGradients([&](const Inputs& in) { return MixBranch(in[0], in[1], in[2], in[3], Tensor(), keep, slope); },
                 [&](const Inputs& in) { return MixedPlainly(in[0], in[1], in[2] + in[3], k); }, all);
  CheckGradients([&](const Inputs& in) { return MixBranch(in[0], in[1], Tensor(), in[2], Tensor(), keep, slope); },
                 [&](const Inputs& in) { return MixedPlainly(in[0], in[1], in[2], k); }, {all[0], all[1], all[3]});
  CheckGradients([&](const Inputs& in) { return MixBranch(in[0], in[1], Tensor(), Tensor(), Tensor(), keep, slope); },
                 [&](const Inputs& in) { return MixedPlainly(in[0], in[1], at::zeros_like(in[0]), k); },
                 {all[0], all[1]});
}

// The forward pass uses keep as it is; the derivative by z is slope times what keep would have changed.
TEST(MixBranch, GradientByTheLogitIsStraightThrough) {
  const Tensor x = Normal({kRows, kCols}, 20);
  const Tensor branch = Normal({kRows, kCols}, 21);
  const Tensor skip = Normal({kRows, kCols}, 22);
  const Tensor bias = Normal({kCols}, 23);
  const Tensor slope = at::tensor({0.5F, 2.0F, 0.0F, 0.125F, 7.0F, 1.0F});
  const Tensor weights = Normal({kRows, kCols}, 24);
  for (const bool with_skip : {false, true}) {
    for (const bool with_bias : {false, true}) {
      SCOPED_TRACE(::testing::Message() << with_skip << with_bias);
      const Tensor s = with_skip ? skip : Tensor();
      const Tensor b = with_bias ? bias : Tensor();
      const Tensor z = Normal({kRows}, 25).set_requires_grad(true);
      const Tensor out = MixBranch(x, branch, s, b, z, Keep(), slope);
      EXPECT_TRUE(SameBits(out.detach(), MixBranch(x, branch, s, b, Tensor(), Keep(), slope))) << "z changes no value";
      out.backward(weights);
      Tensor difference = branch.to(at::kDouble);
      if (with_skip) difference = difference - skip.to(at::kDouble);
      if (with_bias) difference = difference - bias.to(at::kDouble);
      ExpectNear(z.grad(), slope.to(at::kDouble) * (weights.to(at::kDouble) * difference).sum(1), kRounding, "z");
    }
  }
}

// With a soft keep and its true slope the derivative by z is that of the forward pass.
TEST(MixBranch, GradientByTheLogitOfASoftDecision) {
  const auto op = [](const Inputs& in) {
    const Tensor keep = at::sigmoid(in[2].detach());
    return MixBranch(in[0], in[1], Tensor(), in[3], in[2], keep, keep * (1.0F - keep));
  };
  const auto plain = [](const Inputs& in) { return MixedPlainly(in[0], in[1], in[3], at::sigmoid(in[2])); };
  CheckGradients(op, plain,
                 {Normal({kRows, kCols}, 26), Normal({kRows, kCols}, 27), Normal({kRows}, 28), Normal({kCols}, 29)});
}

TEST(MixBranch, SkippedRowsAddExactlyTheSkipPath) {
  const Tensor x = Normal({kRows, kCols}, 30);
  Tensor branch = Normal({kRows, kCols}, 31);
  branch.fill_(std::numeric_limits<float>::quiet_NaN());  // never read where keep is 0
  const Tensor zero = at::zeros({kRows});
  EXPECT_TRUE(SameBits(MixBranch(x, branch, Tensor(), Tensor(), Tensor(), zero, zero), x));
  const Tensor skip = Normal({kRows, kCols}, 32).to(at::kBFloat16);
  EXPECT_TRUE(SameBits(MixBranch(x, branch, skip, Tensor(), Tensor(), zero, zero), x + skip.to(at::kFloat)));
}

TEST(DistillLoss, ValueAndGradient) {
  constexpr int64_t kVocab = 11;
  const Tensor teacher = Normal({4, kVocab}, 33) * 2;
  const Tensor targets = at::tensor({3, -1, 0, 10}, at::kInt);
  const std::pair<double, double> weights[] = {{1, 0}, {0, 1}, {0.75, 0.5}};
  for (const auto& [kl_weight, ce_weight] : weights) {
    SCOPED_TRACE(::testing::Message() << "kl " << kl_weight << " ce " << ce_weight);
    double kl = 0;
    double nll = 0;
    double expected_kl = 0;
    double expected_nll = 0;
    CheckGradients(
        [&](const Inputs& in) { return DistillLoss(in[0].clone(), teacher, targets, kl_weight, ce_weight, kl, nll); },
        [&](const Inputs& in) {
          const Tensor log_p = at::log_softmax(teacher.to(at::kDouble), 1);
          const Tensor log_q = at::log_softmax(in[0], 1);
          const Tensor sum_kl = (log_p.exp() * (log_p - log_q)).sum();
          const Tensor sum_nll = -(log_q[0][3] + log_q[2][0] + log_q[3][10]);
          expected_kl = sum_kl.item<double>();
          expected_nll = sum_nll.item<double>();
          return (kl_weight * sum_kl + ce_weight * sum_nll) / 4;
        },
        {Normal({4, kVocab}, 34)});
    const Tensor student = Normal({4, kVocab}, 34);
    DistillLoss(student, teacher, targets, kl_weight, ce_weight, kl, nll);
    EXPECT_NEAR(kl, expected_kl, kRounding * (expected_kl + 4));
    EXPECT_NEAR(nll, expected_nll, kRounding * (expected_nll + 4));
    EXPECT_FALSE(SameBits(student, Normal({4, kVocab}, 34))) << "the student's memory holds the gradient now";
  }
}

TEST(DistillLoss, EqualLogitsCostNothing) {
  const Tensor teacher = Normal({3, 100}, 35);
  const Tensor none = at::full({3}, -1, at::kInt);
  double kl = 1;
  double nll = 1;
  const Tensor leaf = teacher.clone().set_requires_grad(true);
  DistillLoss(leaf + 5.0F, teacher, none, 1, 1, kl, nll).backward();  // softmax does not see a shift
  EXPECT_NEAR(kl, 0, 3 * kRounding * 5);
  EXPECT_EQ(nll, 0);
  EXPECT_LE(leaf.grad().abs().max().item<double>(), kRounding);
}

TEST(DistillLoss, NonFiniteLogitsAreSeen) {
  double kl = 0;
  double nll = 0;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Tensor student = Normal({3, 9}, 36);
    student[1][4] = bad;
    const Tensor targets = at::zeros({3}, at::kInt);
    EXPECT_FALSE(std::isfinite(DistillLoss(student, Normal({3, 9}, 37), targets, 1, 1, kl, nll).item<float>())) << bad;
  }
}

TEST(Rows, ComputeTypeRoundsToNearestEven) {
  const Tensor values = at::cat({Normal({1000}, 38), Normal({100}, 39) * 1e-39F, Normal({100}, 40) * 1e38F,
                                 at::tensor({0.0F, -0.0F, 1.00390625F, 1.01171875F, HUGE_VALF, -HUGE_VALF, 3.4e38F})});
  Tensor stored = at::empty({1, values.numel()}, at::kBFloat16);
  StoreRow(stored, 0, values.data_ptr<float>());
  EXPECT_TRUE(SameBits(stored[0], values.to(at::kBFloat16)));
  std::vector<float> scratch(static_cast<size_t>(values.numel()));
  const float* widened = RowAsFloat(stored, 0, scratch.data());
  EXPECT_EQ(std::memcmp(widened, stored.to(at::kFloat).data_ptr<float>(), scratch.size() * 4), 0);
  Tensor nan = at::empty({1, 1}, at::kBFloat16);
  for (const uint32_t bits : {0x7F800001U, 0xFFFFFFFFU, 0x7FFFFFFFU}) {
    const auto value = std::bit_cast<float>(bits);
    StoreRow(nan, 0, &value);
    EXPECT_TRUE(std::isnan(nan.item<float>())) << bits;
  }
  Tensor plain = Normal({2, 4}, 41);
  EXPECT_EQ(RowAsFloat(plain, 1, nullptr), plain.data_ptr<float>() + 4) << "f32 is read in place";
}

TEST(Rows, BitsDoNotDependOnThreads) {
  const int before = at::get_num_threads();
  const Tensor weight = Normal({24}, 42);
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const Tensor x = Normal({101, 24}, 43).set_requires_grad(true);
    const Tensor gate = weight.clone().set_requires_grad(true);
    const Tensor bias = at::ones({1}).set_requires_grad(true);
    const Tensor h = RmsNorm(x, weight, 1e-5, at::kFloat);
    const Tensor z = GateLogit(h, gate, bias);
    const Tensor y = GatedActivation(h, x, kernels::Activation::kGeluTanh);
    MixBranch(x, y, Tensor(), Tensor(), z, at::ones({101}), at::ones({101})).backward(Normal({101, 24}, 44));
    return Inputs{z.detach(), x.grad(), gate.grad(), bias.grad()};
  };
  const Inputs one = run(1);
  for (const int threads : {2, 3}) {
    const Inputs many = run(threads);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(SameBits(one[i], many[i])) << i << " on " << threads;
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace gateskip::train
