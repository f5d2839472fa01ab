// SPDX-License-Identifier: Apache-2.0
// The ops of ops.h, written in LibTorch's own differentiable operations: any device, more memory. On the CPU they are
// what the tests hold the fast forms against.
#pragma once

#include "train/ops.h"

namespace gateskip::train::portable {

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType dtype);
Tensor GateLogit(const Tensor& h, const Tensor& weight, const Tensor& bias);
Tensor SplitHeads(const Tensor& x, int64_t batch, int64_t head_dim, const Tensor& cosines, const Tensor& sines,
                  kernels::RopeLayout layout);
Tensor CausalAttention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& shape,
                       const AttentionMask& mask);
Tensor GatedActivation(const Tensor& gate, const Tensor& up, kernels::Activation activation);
Tensor MixBranch(const Tensor& x, const Tensor& branch, const Tensor& skip, const Tensor& bias, const Tensor& z,
                 const Tensor& keep, const Tensor& slope);
Tensor DistillLoss(const Tensor& student, const Tensor& teacher, const Tensor& targets, double kl_weight,
                   double ce_weight, double& kl, double& nll);
Tensor RowNll(const Tensor& logits, const Tensor& targets);
Tensor RowKl(const Tensor& student, const Tensor& teacher);

}  // namespace gateskip::train::portable
