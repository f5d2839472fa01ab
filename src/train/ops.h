// SPDX-License-Identifier: Apache-2.0
// The differentiable steps of a gated decoder layer, as autograd functions over row_math.h. Everything between
// them is a plain matrix product. Tensors are f32 or bf16 (the compute type); the residual stream is f32. Tensors on
// another device than the CPU take the slower forms of ops_portable.h.
#pragma once

#include <torch/torch.h>

#include <functional>

#include "kernels/kernels.h"

namespace gateskip::train {

using at::Tensor;

struct AttentionShape {
  int64_t batch, length;  // sequences and tokens of each
  int64_t heads, kv_heads, head_dim;
  double scale;
  int64_t window;  // 0 = all
};

// x [rows, d] f32 or compute type -> [rows, d] of `dtype`. weight [d] f32.
Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType dtype);

// h [rows, d], weight [d] f32, bias [1] f32 -> [rows] f32. h counts as detached.
Tensor GateLogit(const Tensor& h, const Tensor& weight, const Tensor& bias);

// [batch * length, heads * head_dim] -> [batch * heads, length, head_dim], rotated by position. cosines and sines
// [length, rotated / 2] f32; undefined = no rotation.
Tensor SplitHeads(const Tensor& x, int64_t batch, int64_t head_dim, const Tensor& cosines, const Tensor& sines,
                  kernels::RopeLayout layout);

// Which earlier rows a row attends to; it always attends to itself. Undefined tensors: all of its sequence.
struct AttentionMask {
  Tensor visible;  // [batch * length] uint8: 0 hides the row from later ones
  Tensor starts;   // [batch * length] int32: first row of the same document, counted in the sequence
};

// Causal attention of q [batch * heads, length, head_dim] over k, v [batch * kv_heads, length, head_dim] ->
// [batch * length, heads * head_dim].
Tensor CausalAttention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& shape,
                       const AttentionMask& mask);

// activation(gate) * up.
Tensor GatedActivation(const Tensor& gate, const Tensor& up, kernels::Activation activation);

// The gated residual add: x + keep * branch + (1 - keep) * (skip + bias). keep [rows] f32 is what the forward
// pass uses; the derivative by z [rows] is that of keep = sigmoid((z - tau) / temperature), straight through.
// skip [rows, d] and bias [d] may be undefined. slope [rows] f32 = d keep / d z, given by the caller.
Tensor MixBranch(const Tensor& x, const Tensor& branch, const Tensor& skip, const Tensor& bias, const Tensor& z,
                 const Tensor& keep, const Tensor& slope);

// Mean over rows of kl_weight KL(teacher || student) + ce_weight NLL(targets); logits of the compute type.
// targets [rows] int32, -1 = none. No KL without a teacher (undefined). `kl` and `nll` receive the sums. The student's
// memory is overwritten.
Tensor DistillLoss(const Tensor& student, const Tensor& teacher, const Tensor& targets, double kl_weight,
                   double ce_weight, double& kl, double& nll);

// Of each row, f32, no gradient: -log p(target), 0 where the target is -1; KL(teacher || student).
Tensor RowNll(const Tensor& logits, const Tensor& targets);
Tensor RowKl(const Tensor& student, const Tensor& teacher);

// A' B of a [rows, m] and b [rows, n], f32, no gradient. LibTorch's own f32 product may be that of a BLAS without SIMD.
Tensor TransposedProduct(const Tensor& a, const Tensor& b);

// Calls task(begin, end) over contiguous ranges of rows on LibTorch's threads.
void ForRows(int64_t rows, const std::function<void(int64_t, int64_t)>& task);

// Row `r` of a contiguous f32 or bf16 matrix as f32: in place, or widened into `scratch`.
const float* RowAsFloat(const Tensor& x, int64_t r, float* scratch);
void StoreRow(Tensor& x, int64_t r, const float* values);

}  // namespace gateskip::train
