// SPDX-License-Identifier: Apache-2.0
// The forms for other devices against the CPU's own: values and gradients, on the CPU.
#include "train/ops_portable.h"

#include <gtest/gtest.h>

#include "train/testing/gradient_check.h"

namespace gateskip::train {
namespace {

using testing::ExpectNear;
using testing::kRounding;
using testing::Normal;
using Inputs = std::vector<Tensor>;

// Both are f32: each may be off by what gradient_check.h allows against f64, the gradient by twice that.
void ExpectSame(const testing::Function& fast, const testing::Function& portable, const Inputs& inputs) {
  std::vector<Inputs> leaves(2);
  Inputs outs;
  for (size_t side = 0; side < 2; ++side) {
    for (const Tensor& input : inputs) leaves[side].push_back(input.clone().set_requires_grad(true));
    outs.push_back((side == 0 ? fast : portable)(leaves[side]));
  }
  ExpectNear(outs[1], outs[0], 2 * kRounding, "forward");
  const Tensor weights = Normal(outs[0].sizes(), 99);
  for (const Tensor& out : outs) out.backward(weights);
  for (size_t i = 0; i < inputs.size(); ++i) {
    ExpectNear(leaves[1][i].grad(), leaves[0][i].grad(), 4 * kRounding, "gradient " + std::to_string(i));
  }
}

TEST(PortableOps, RmsNorm) {
  ExpectSame([](const Inputs& in) { return RmsNorm(in[0], in[1], 1e-3, at::kFloat); },
             [](const Inputs& in) { return portable::RmsNorm(in[0], in[1], 1e-3, at::kFloat); },
             {Normal({20, 8}, 1), Normal({8}, 2)});
}

TEST(PortableOps, GateLogit) {
  const Tensor h = Normal({6, 8}, 1);
  ExpectSame([&](const Inputs& in) { return GateLogit(h, in[0], in[1]); },
             [&](const Inputs& in) { return portable::GateLogit(h, in[0], in[1]); }, {Normal({8}, 2), Normal({1}, 3)});
}

TEST(PortableOps, SplitHeads) {
  const Tensor angles = Normal({5, 3}, 4);
  for (const auto layout : {kernels::RopeLayout::kInterleaved, kernels::RopeLayout::kHalves}) {
    for (const bool rotate : {false, true}) {
      const Tensor cosines = rotate ? angles.cos() : Tensor();
      const Tensor sines = rotate ? angles.sin() : Tensor();
      ExpectSame([&](const Inputs& in) { return SplitHeads(in[0], 2, 8, cosines, sines, layout); },
                 [&](const Inputs& in) { return portable::SplitHeads(in[0], 2, 8, cosines, sines, layout); },
                 {Normal({10, 24}, 5)});
    }
  }
}

TEST(PortableOps, CausalAttention) {
  const Tensor visible = at::tensor({1, 0, 1, 1, 0, 0, 1, 1, 0, 1}, at::kByte);
  const Tensor starts = at::tensor({0, 0, 2, 2, 2, 0, 1, 1, 1, 4}, at::kInt);
  for (const int64_t window : {0, 2}) {
    const AttentionShape shape{2, 5, 4, 2, 3, 0.6, window};
    for (const AttentionMask& mask : {AttentionMask{}, AttentionMask{visible, {}}, AttentionMask{visible, starts}}) {
      ExpectSame([&](const Inputs& in) { return CausalAttention(in[0], in[1], in[2], shape, mask); },
                 [&](const Inputs& in) { return portable::CausalAttention(in[0], in[1], in[2], shape, mask); },
                 {Normal({8, 5, 3}, 1), Normal({4, 5, 3}, 2), Normal({4, 5, 3}, 3)});
    }
  }
}

TEST(PortableOps, GatedActivation) {
  for (const auto kind : {kernels::Activation::kSilu, kernels::Activation::kGeluTanh}) {
    ExpectSame([&](const Inputs& in) { return GatedActivation(in[0], in[1], kind); },
               [&](const Inputs& in) { return portable::GatedActivation(in[0], in[1], kind); },
               {Normal({4, 9}, 1), Normal({4, 9}, 2)});
  }
}

TEST(PortableOps, MixBranch) {
  const Tensor keep = at::tensor({1.0F, 0.0F, 1.0F, 0.0F});
  const Tensor slope = at::tensor({0.5F, 0.25F, 0.0F, 0.75F});
  ExpectSame([&](const Inputs& in) { return MixBranch(in[0], in[1], in[2], in[3], in[4], keep, slope); },
             [&](const Inputs& in) { return portable::MixBranch(in[0], in[1], in[2], in[3], in[4], keep, slope); },
             {Normal({4, 6}, 1), Normal({4, 6}, 2), Normal({4, 6}, 3), Normal({6}, 4), Normal({4}, 5)});
  ExpectSame([&](const Inputs& in) { return MixBranch(in[0], in[1], {}, {}, {}, keep, slope); },
             [&](const Inputs& in) { return portable::MixBranch(in[0], in[1], {}, {}, {}, keep, slope); },
             {Normal({4, 6}, 1), Normal({4, 6}, 2)});
}

TEST(PortableOps, Losses) {
  const Tensor targets = at::tensor({3, -1, 0, 5}, at::kInt);
  const Tensor teacher = Normal({4, 7}, 2);
  double sums[2][2];
  for (const bool with_teacher : {true, false}) {
    const Tensor t = with_teacher ? teacher : Tensor();
    ExpectSame(
        [&](const Inputs& in) { return DistillLoss(in[0] * 1.0, t, targets, 0.7, 0.4, sums[0][0], sums[0][1]); },
        [&](const Inputs& in) { return portable::DistillLoss(in[0], t, targets, 0.7, 0.4, sums[1][0], sums[1][1]); },
        {Normal({4, 7}, 1)});
    for (const int i : {0, 1}) EXPECT_NEAR(sums[0][i], sums[1][i], 4 * kRounding * std::abs(sums[0][i])) << i;
    EXPECT_EQ(sums[0][0] > 0, with_teacher);
  }
  const Tensor logits = Normal({4, 7}, 3);
  ExpectNear(portable::RowNll(logits, targets), RowNll(logits, targets), 2 * kRounding, "nll");
  ExpectNear(portable::RowKl(logits, teacher), RowKl(logits, teacher), 4 * kRounding, "kl");
  EXPECT_EQ(RowNll(logits, targets)[1].item<float>(), 0.0F);
}

}  // namespace
}  // namespace gateskip::train
