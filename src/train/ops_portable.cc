// SPDX-License-Identifier: Apache-2.0
#include "train/ops_portable.h"

#include <cmath>

namespace gateskip::train::portable {
namespace {

Tensor LogSoftmax(const Tensor& logits) { return at::log_softmax(logits.to(at::kFloat), -1); }

// x [..., head_dim] rotated; cosines and sines [length, half], x [batch, length, heads, head_dim].
Tensor Rotate(const Tensor& x, const Tensor& cosines, const Tensor& sines, kernels::RopeLayout layout) {
  const int64_t half = cosines.size(1);
  const Tensor c = cosines.slice(0, 0, x.size(1)).view({1, x.size(1), 1, half});
  const Tensor s = sines.slice(0, 0, x.size(1)).view({1, x.size(1), 1, half});
  const Tensor rotated = x.slice(-1, 0, 2 * half);
  const Tensor rest = x.slice(-1, 2 * half);
  if (layout == kernels::RopeLayout::kInterleaved) {
    const Tensor pairs = rotated.reshape({x.size(0), x.size(1), x.size(2), half, 2});
    const Tensor a = pairs.select(-1, 0);
    const Tensor b = pairs.select(-1, 1);
    const Tensor turned = at::stack({a * c - b * s, a * s + b * c}, -1).reshape(rotated.sizes());
    return at::cat({turned, rest}, -1);
  }
  const Tensor a = rotated.slice(-1, 0, half);
  const Tensor b = rotated.slice(-1, half);
  return at::cat({a * c - b * s, a * s + b * c, rest}, -1);
}

}  // namespace

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType dtype) {
  const Tensor wide = x.to(at::kFloat);
  return (wide * at::rsqrt(wide.square().mean(-1, true) + eps) * weight).to(dtype);
}

Tensor GateLogit(const Tensor& h, const Tensor& weight, const Tensor& bias) {
  return at::mv(h.detach().to(at::kFloat), weight) + bias;
}

Tensor SplitHeads(const Tensor& x, int64_t batch, int64_t head_dim, const Tensor& cosines, const Tensor& sines,
                  kernels::RopeLayout layout) {
  const int64_t length = x.size(0) / batch;
  const int64_t heads = x.size(1) / head_dim;
  Tensor split = x.reshape({batch, length, heads, head_dim});
  if (cosines.defined()) split = Rotate(split.to(at::kFloat), cosines, sines, layout).to(x.scalar_type());
  return split.transpose(1, 2).reshape({batch * heads, length, head_dim});
}

Tensor CausalAttention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& s,
                       const AttentionMask& mask) {
  const auto options = at::TensorOptions().device(q.device());
  const Tensor row = at::arange(s.length, options).unsqueeze(1);
  const Tensor column = at::arange(s.length, options).unsqueeze(0);
  Tensor allowed = (column <= row).unsqueeze(0);  // [1 or batch, length, length]
  if (s.window > 0) allowed = allowed & (column > row - s.window);
  if (mask.starts.defined()) allowed = allowed & (column >= mask.starts.view({s.batch, s.length, 1}));
  if (mask.visible.defined()) allowed = allowed & ((mask.visible.view({s.batch, 1, s.length}) != 0) | (column == row));
  const int64_t group = s.heads / s.kv_heads;
  const auto per_head = [&](const Tensor& x) { return x.repeat_interleave(group, 0); };  // [batch * heads, length, d]
  const Tensor scores = at::bmm(q, per_head(k).transpose(1, 2)).to(at::kFloat) * s.scale;
  const Tensor every = allowed.expand({s.batch, s.length, s.length}).repeat_interleave(s.heads, 0);
  const Tensor p = at::softmax(scores.masked_fill(every.logical_not(), -INFINITY), -1).to(v.scalar_type());
  return at::bmm(p, per_head(v))
      .view({s.batch, s.heads, s.length, s.head_dim})
      .transpose(1, 2)
      .reshape({s.batch * s.length, s.heads * s.head_dim});
}

Tensor GatedActivation(const Tensor& gate, const Tensor& up, kernels::Activation activation) {
  const Tensor g = gate.to(at::kFloat);
  const Tensor activated = activation == kernels::Activation::kGeluTanh
                               ? 0.5 * g * (1.0 + at::tanh(std::sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g)))
                               : at::silu(g);
  return (activated * up.to(at::kFloat)).to(gate.scalar_type());
}

Tensor MixBranch(const Tensor& x, const Tensor& branch, const Tensor& skip, const Tensor& bias, const Tensor& z,
                 const Tensor& keep, const Tensor& slope) {
  Tensor k = keep;
  if (z.defined()) k = keep + slope * (z - z.detach());
  k = k.unsqueeze(1);
  Tensor instead = at::zeros_like(x);
  if (skip.defined()) instead = instead + skip.to(at::kFloat);
  if (bias.defined()) instead = instead + bias;
  return x + k * branch.to(at::kFloat) + (1.0 - k) * instead;
}

Tensor DistillLoss(const Tensor& student, const Tensor& teacher, const Tensor& targets, double kl_weight,
                   double ce_weight, double& kl, double& nll) {
  const Tensor s = LogSoftmax(student);
  const Tensor wanted = targets.to(at::kLong);
  const Tensor picked = s.gather(1, wanted.clamp_min(0).unsqueeze(1)).squeeze(1);
  const Tensor nll_sum = -(picked * (wanted >= 0).to(at::kFloat)).sum();
  Tensor loss = ce_weight * nll_sum;
  kl = 0;
  if (teacher.defined()) {
    const Tensor t = LogSoftmax(teacher.detach());
    const Tensor kl_sum = (t.exp() * (t - s)).sum();
    loss = loss + kl_weight * kl_sum;
    kl = kl_sum.item<double>();
  }
  nll = nll_sum.item<double>();
  return loss / static_cast<double>(student.size(0));
}

Tensor RowNll(const Tensor& logits, const Tensor& targets) {
  at::NoGradGuard no_grad;
  const Tensor wanted = targets.to(at::kLong);
  const Tensor picked = LogSoftmax(logits).gather(1, wanted.clamp_min(0).unsqueeze(1)).squeeze(1);
  return -picked * (wanted >= 0).to(at::kFloat);
}

Tensor RowKl(const Tensor& student, const Tensor& teacher) {
  at::NoGradGuard no_grad;
  const Tensor t = LogSoftmax(teacher);
  return (t.exp() * (t - LogSoftmax(student))).sum(-1);
}

}  // namespace gateskip::train::portable
