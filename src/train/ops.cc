// SPDX-License-Identifier: Apache-2.0
#include "train/ops.h"

#include <ATen/Parallel.h>

#include <vector>

#include "base/check.h"
#include "train/ops_portable.h"
#include "train/row_math.h"

namespace gateskip::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

// Function::apply takes no undefined tensors.
using MaybeTensor = c10::optional<Tensor>;
MaybeTensor Maybe(const Tensor& x) { return x.defined() ? MaybeTensor(x) : MaybeTensor(); }

size_t Cols(const Tensor& x) { return static_cast<size_t>(x.size(-1)); }
std::vector<float> Scratch(size_t n) { return std::vector<float>(n); }

bool IsHalf(const Tensor& x) { return x.scalar_type() == at::kBFloat16; }

struct RmsNormFn : Function<RmsNormFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, double eps, int64_t dtype) {
    Tensor out = at::empty(x.sizes(), x.options().dtype(static_cast<at::ScalarType>(dtype)));
    Tensor inverse = at::empty({x.size(0)}, at::kFloat);
    const size_t d = Cols(x);
    ForRows(x.size(0), [&](int64_t begin, int64_t end) {
      auto in = Scratch(d);
      auto row = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        inverse.data_ptr<float>()[r] =
            RmsNormRow(RowAsFloat(x, r, in.data()), weight.data_ptr<float>(), static_cast<float>(eps), row.data(), d);
        StoreRow(out, r, row.data());
      }
    });
    ctx->save_for_backward({x, weight, inverse});
    ctx->saved_data["weight_trained"] = weight.requires_grad();
    return out;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor& x = saved[0];
    const Tensor dout = grads[0].contiguous();
    Tensor dx = at::empty_like(x);
    const size_t d = Cols(x);
    ForRows(x.size(0), [&](int64_t begin, int64_t end) {
      auto in = Scratch(d);
      auto grad = Scratch(d);
      auto row = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        RmsNormBackwardRow(RowAsFloat(x, r, in.data()), saved[1].data_ptr<float>(), saved[2].data_ptr<float>()[r],
                           RowAsFloat(dout, r, grad.data()), row.data(), d);
        StoreRow(dx, r, row.data());
      }
    });
    return {dx, WeightGradient(ctx, x, saved[1], saved[2], dout), Tensor(), Tensor()};
  }
  // Sums over blocks of rows, then over the blocks: never in an order that depends on the number of threads.
  static Tensor WeightGradient(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& inverse,
                               const Tensor& dout) {
    if (!ctx->saved_data["weight_trained"].toBool()) return {};
    constexpr int64_t kBlocks = 16;
    const size_t d = Cols(x);
    Tensor partial = at::zeros({kBlocks, weight.size(0)}, at::kFloat);
    at::parallel_for(0, kBlocks, 1, [&](int64_t first, int64_t last) {
      auto in = Scratch(d);
      auto grad = Scratch(d);
      for (int64_t block = first; block < last; ++block) {
        for (int64_t r = x.size(0) * block / kBlocks; r < x.size(0) * (block + 1) / kBlocks; ++r) {
          RmsNormWeightGradientRow(RowAsFloat(x, r, in.data()), inverse.data_ptr<float>()[r],
                                   RowAsFloat(dout, r, grad.data()), partial.data_ptr<float>() + block * weight.size(0),
                                   d);
        }
      }
    });
    return partial.sum(0);
  }
};

struct GateLogitFn : Function<GateLogitFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& h, const Tensor& weight, const Tensor& bias) {
    Tensor z = at::empty({h.size(0)}, at::kFloat);
    const size_t d = Cols(h);
    const float b = bias.data_ptr<float>()[0];
    ForRows(h.size(0), [&](int64_t begin, int64_t end) {
      auto in = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        z.data_ptr<float>()[r] = DotRow(RowAsFloat(h, r, in.data()), weight.data_ptr<float>(), d) + b;
      }
    });
    ctx->save_for_backward({h});
    return z;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const Tensor h = ctx->get_saved_variables()[0];
    const Tensor dz = grads[0].contiguous();
    const size_t d = Cols(h);
    Tensor dweight = at::zeros({h.size(1)}, at::kFloat);
    // Serial over rows: the sum then never depends on the number of threads.
    auto in = Scratch(d);
    for (int64_t r = 0; r < h.size(0); ++r) {
      AxpyRow(dz.data_ptr<float>()[r], RowAsFloat(h, r, in.data()), dweight.data_ptr<float>(), d);
    }
    return {Tensor(), dweight, dz.sum().reshape({1})};
  }
};

// Rotates one head: sign +1 forward, -1 backward (the rotation's transpose).
void RotateHead(const float* in, float* out, const float* cosines, const float* sines, size_t head_dim, size_t half,
                kernels::RopeLayout layout, float sign) {
  std::copy(in, in + head_dim, out);
  for (size_t i = 0; i < half; ++i) {
    const size_t a = layout == kernels::RopeLayout::kInterleaved ? 2 * i : i;
    const size_t b = layout == kernels::RopeLayout::kInterleaved ? 2 * i + 1 : i + half;
    const float s = sign * sines[i];
    out[a] = in[a] * cosines[i] - in[b] * s;
    out[b] = in[a] * s + in[b] * cosines[i];
  }
}

struct SplitHeadsFn : Function<SplitHeadsFn> {
  // Moves between [batch * length, heads * head_dim] and [batch * heads, length, head_dim].
  static Tensor Move(const Tensor& x, int64_t batch, int64_t length, int64_t heads, int64_t head_dim,
                     const Tensor& cosines, const Tensor& sines, kernels::RopeLayout layout, bool split) {
    Tensor out = split ? at::empty({batch * heads, length, head_dim}, x.options())
                       : at::empty({batch * length, heads * head_dim}, x.options());
    const Tensor from = x.view({-1, head_dim});
    Tensor to = out.view({-1, head_dim});
    const auto d = static_cast<size_t>(head_dim);
    const size_t half = cosines.defined() ? Cols(cosines) : 0;
    ForRows(batch * length, [&](int64_t begin, int64_t end) {
      auto in = Scratch(d);
      auto row = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        const int64_t t = r % length;
        for (int64_t head = 0; head < heads; ++head) {
          const int64_t merged = r * heads + head;
          const int64_t parted = (r / length * heads + head) * length + t;
          const float* values = RowAsFloat(from, split ? merged : parted, in.data());
          if (half > 0) {
            RotateHead(values, row.data(), cosines.data_ptr<float>() + t * static_cast<int64_t>(half),
                       sines.data_ptr<float>() + t * static_cast<int64_t>(half), d, half, layout, split ? 1.0F : -1.0F);
            values = row.data();
          }
          StoreRow(to, split ? parted : merged, values);
        }
      }
    });
    return out;
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t batch, int64_t head_dim,
                        const MaybeTensor& maybe_cosines, const MaybeTensor& maybe_sines, int64_t layout) {
    const Tensor cosines = maybe_cosines.value_or(Tensor());
    const Tensor sines = maybe_sines.value_or(Tensor());
    const int64_t length = x.size(0) / batch;
    const int64_t heads = x.size(1) / head_dim;
    ctx->saved_data["shape"] = std::vector<int64_t>{batch, length, heads, head_dim, layout};
    ctx->saved_data["cos"] = cosines;
    ctx->saved_data["sin"] = sines;
    return Move(x.contiguous(), batch, length, heads, head_dim, cosines, sines,
                static_cast<kernels::RopeLayout>(layout), true);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->saved_data["shape"].toIntVector();
    const Tensor dx = Move(grads[0].contiguous(), s[0], s[1], s[2], s[3], ctx->saved_data["cos"].toTensor(),
                           ctx->saved_data["sin"].toTensor(), static_cast<kernels::RopeLayout>(s[4]), false);
    return {dx, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct AttentionFn : Function<AttentionFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        std::vector<int64_t> dims, double scale, const MaybeTensor& maybe_visible,
                        const MaybeTensor& maybe_starts) {
    const Tensor visible = maybe_visible.value_or(Tensor());
    const Tensor starts = maybe_starts.value_or(Tensor());
    const int64_t batch = dims[0], length = dims[1], heads = dims[2], kv_heads = dims[3], head_dim = dims[4];
    const int64_t window = dims[5];
    const int64_t group = heads / kv_heads;
    const Tensor grouped_q = q.view({batch * kv_heads, group * length, head_dim});
    Tensor p = at::bmm(grouped_q, k.transpose(1, 2));  // [batch * kv_heads, group * length, length]
    Tensor rows = p.view({-1, length});
    const uint8_t* seen = visible.defined() ? visible.data_ptr<uint8_t>() : nullptr;
    const int32_t* start = starts.defined() ? starts.data_ptr<int32_t>() : nullptr;
    ForRows(rows.size(0), [&](int64_t begin, int64_t end) {
      const auto n = static_cast<size_t>(length);
      auto in = Scratch(n);
      auto out = Scratch(n);
      for (int64_t r = begin; r < end; ++r) {
        const int64_t t = r % length;
        const int64_t sequence = r / (length * group * kv_heads);
        const int64_t document = start == nullptr ? 0 : start[sequence * length + t];
        const int64_t first = window > 0 ? std::max(document, t - window + 1) : document;
        const float* scores = RowAsFloat(rows, r, in.data());
        std::fill(out.begin(), out.end(), 0.0F);
        if (seen != nullptr) {
          auto* masked = const_cast<float*>(scores);  // scratch, or scores that are overwritten below anyway
          for (int64_t j = first; j < t; ++j) {
            if (seen[sequence * length + j] == 0) masked[j] = -1e30F;
          }
        }
        SoftmaxRow(scores + first, static_cast<float>(scale), out.data() + first, static_cast<size_t>(t - first + 1));
        StoreRow(rows, r, out.data());
      }
    });
    const Tensor context = at::bmm(p, v).view({batch, heads, length, head_dim});
    ctx->save_for_backward({grouped_q, k, v, p});
    ctx->saved_data["dims"] = dims;
    ctx->saved_data["scale"] = scale;
    return context.transpose(1, 2).reshape({batch * length, heads * head_dim});
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto dims = ctx->saved_data["dims"].toIntVector();
    const double scale = ctx->saved_data["scale"].toDouble();
    const int64_t batch = dims[0], length = dims[1], heads = dims[2], kv_heads = dims[3], head_dim = dims[4];
    const int64_t group = heads / kv_heads;
    const Tensor& q = saved[0];
    const Tensor& p = saved[3];
    const Tensor dcontext = grads[0]
                                .view({batch, length, heads, head_dim})
                                .transpose(1, 2)
                                .reshape({batch * kv_heads, group * length, head_dim});
    const Tensor dv = at::bmm(p.transpose(1, 2), dcontext);
    Tensor ds = at::bmm(dcontext, saved[2].transpose(1, 2));
    Tensor rows = ds.view({-1, length});
    const Tensor p_rows = p.view({-1, length});
    ForRows(rows.size(0), [&](int64_t begin, int64_t end) {
      const auto n = static_cast<size_t>(length);
      auto dp = Scratch(n);
      auto prob = Scratch(n);
      auto out = Scratch(n);
      for (int64_t r = begin; r < end; ++r) {
        const auto used = static_cast<size_t>(r % length + 1);
        std::fill(out.begin(), out.end(), 0.0F);
        SoftmaxBackwardRow(RowAsFloat(p_rows, r, prob.data()), RowAsFloat(rows, r, dp.data()),
                           static_cast<float>(scale), out.data(), used);
        StoreRow(rows, r, out.data());
      }
    });
    const Tensor dq = at::bmm(ds, saved[1]).view({batch * heads, length, head_dim});
    const Tensor dk = at::bmm(ds.transpose(1, 2), q);
    return {dq, dk, dv, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct ActivationFn : Function<ActivationFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate, const Tensor& up, bool gelu) {
    Tensor out = at::empty_like(gate);
    const size_t d = Cols(gate);
    ForRows(gate.size(0), [&](int64_t begin, int64_t end) {
      auto a = Scratch(d);
      auto b = Scratch(d);
      auto row = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        const float* g = RowAsFloat(gate, r, a.data());
        const float* u = RowAsFloat(up, r, b.data());
        gelu ? GeluMulRow(g, u, row.data(), d) : SiluMulRow(g, u, row.data(), d);
        StoreRow(out, r, row.data());
      }
    });
    ctx->save_for_backward({gate, up});
    ctx->saved_data["gelu"] = gelu;
    return out;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const bool gelu = ctx->saved_data["gelu"].toBool();
    const Tensor dout = grads[0].contiguous();
    Tensor dgate = at::empty_like(saved[0]);
    Tensor dup = at::empty_like(saved[1]);
    const size_t d = Cols(dout);
    ForRows(dout.size(0), [&](int64_t begin, int64_t end) {
      auto a = Scratch(d);
      auto b = Scratch(d);
      auto c = Scratch(d);
      auto dg = Scratch(d);
      auto du = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        const float* g = RowAsFloat(saved[0], r, a.data());
        const float* u = RowAsFloat(saved[1], r, b.data());
        const float* o = RowAsFloat(dout, r, c.data());
        gelu ? GeluMulBackwardRow(g, u, o, dg.data(), du.data(), d)
             : SiluMulBackwardRow(g, u, o, dg.data(), du.data(), d);
        StoreRow(dgate, r, dg.data());
        StoreRow(dup, r, du.data());
      }
    });
    return {dgate, dup, Tensor()};
  }
};

struct MixFn : Function<MixFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& branch, const MaybeTensor& maybe_skip,
                        const MaybeTensor& maybe_bias, const MaybeTensor& z, const Tensor& keep, const Tensor& slope) {
    const Tensor skip = maybe_skip.value_or(Tensor());
    const Tensor bias = maybe_bias.value_or(Tensor());
    Tensor out = at::empty_like(x);
    const size_t d = Cols(x);
    ForRows(x.size(0), [&](int64_t begin, int64_t end) {
      auto b = Scratch(d);
      auto s = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        const float k = keep.data_ptr<float>()[r];
        float* y = out.data_ptr<float>() + r * x.size(1);
        const float* from = x.data_ptr<float>() + r * x.size(1);
        std::copy(from, from + d, y);
        if (k != 0.0F) AxpyRow(k, RowAsFloat(branch, r, b.data()), y, d);
        if (k != 1.0F && skip.defined()) AxpyRow(1.0F - k, RowAsFloat(skip, r, s.data()), y, d);
        if (k != 1.0F && bias.defined()) AxpyRow(1.0F - k, bias.data_ptr<float>(), y, d);
      }
    });
    ctx->save_for_backward({branch, skip, bias, keep, slope});
    ctx->saved_data["has_z"] = z.has_value();
    return out;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &branch = saved[0], &skip = saved[1], &bias = saved[2], &keep = saved[3], &slope = saved[4];
    const Tensor dy = grads[0].contiguous();
    const size_t d = Cols(dy);
    Tensor dbranch = at::empty_like(branch);
    Tensor dskip = skip.defined() ? at::empty_like(skip) : Tensor();
    Tensor dbias;
    Tensor dz = ctx->saved_data["has_z"].toBool() ? at::zeros({dy.size(0)}, at::kFloat) : Tensor();
    ForRows(dy.size(0), [&](int64_t begin, int64_t end) {
      auto b = Scratch(d);
      auto s = Scratch(d);
      auto row = Scratch(d);
      for (int64_t r = begin; r < end; ++r) {
        const float k = keep.data_ptr<float>()[r];
        const float* g = dy.data_ptr<float>() + r * dy.size(1);
        std::fill(row.begin(), row.end(), 0.0F);
        if (k != 0.0F) AxpyRow(k, g, row.data(), d);
        StoreRow(dbranch, r, row.data());
        if (skip.defined()) {
          std::fill(row.begin(), row.end(), 0.0F);
          if (k != 1.0F) AxpyRow(1.0F - k, g, row.data(), d);
          StoreRow(dskip, r, row.data());
        }
        const float slope_r = dz.defined() ? slope.data_ptr<float>()[r] : 0.0F;
        if (slope_r != 0.0F) {
          float difference = DotRow(g, RowAsFloat(branch, r, b.data()), d);
          if (skip.defined()) difference -= DotRow(g, RowAsFloat(skip, r, s.data()), d);
          if (bias.defined()) difference -= DotRow(g, bias.data_ptr<float>(), d);
          dz.data_ptr<float>()[r] = slope_r * difference;
        }
      }
    });
    if (bias.defined()) dbias = at::mv(dy.t(), 1.0 - keep);
    return {dy, dbranch, dskip, dbias, dz, Tensor(), Tensor()};
  }
};

struct DistillFn : Function<DistillFn> {
  static Tensor forward(AutogradContext* ctx, const Tensor& student, const MaybeTensor& teacher, const Tensor& targets,
                        double kl_weight, double ce_weight, Tensor& sums) {
    const int64_t rows = student.size(0);
    const size_t n = Cols(student);
    const auto inverse = 1.0F / static_cast<float>(rows);
    Tensor grad = student;  // overwritten: a head's logits are the largest tensor of the step
    Tensor losses = at::empty({rows, 2}, at::kFloat);
    ForRows(rows, [&](int64_t begin, int64_t end) {
      auto s = Scratch(n);
      auto t = Scratch(n);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = RowAsFloat(student, r, s.data());
        if (row != s.data()) std::copy(row, row + n, s.begin());
        const LossRow loss =
            DistillRow(s.data(), teacher ? RowAsFloat(*teacher, r, t.data()) : nullptr, targets.data_ptr<int32_t>()[r],
                       static_cast<float>(kl_weight) * inverse, static_cast<float>(ce_weight) * inverse, n);
        losses.data_ptr<float>()[2 * r] = loss.kl;
        losses.data_ptr<float>()[2 * r + 1] = loss.nll;
        StoreRow(grad, r, s.data());
      }
    });
    sums.copy_(losses.sum(0, false, at::kDouble));
    ctx->saved_data["grad"] = grad;
    const auto total = sums.accessor<double, 1>();
    return at::full({}, (kl_weight * total[0] + ce_weight * total[1]) / static_cast<double>(rows), at::kFloat);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const float scale = grads[0].item<float>();
    Tensor grad = ctx->saved_data["grad"].toTensor();
    if (scale != 1.0F) grad = grad * scale;
    return {grad, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

void ForRows(int64_t rows, const std::function<void(int64_t, int64_t)>& task) { at::parallel_for(0, rows, 8, task); }

const float* RowAsFloat(const Tensor& x, int64_t r, float* scratch) {
  const int64_t n = x.size(-1);
  if (!IsHalf(x)) return x.data_ptr<float>() + r * n;
  WidenRow(reinterpret_cast<const uint16_t*>(x.data_ptr<at::BFloat16>()) + r * n, scratch, static_cast<size_t>(n));
  return scratch;
}

void StoreRow(Tensor& x, int64_t r, const float* values) {
  const int64_t n = x.size(-1);
  if (IsHalf(x)) {
    NarrowRow(values, reinterpret_cast<uint16_t*>(x.data_ptr<at::BFloat16>()) + r * n, static_cast<size_t>(n));
  } else {
    float* row = x.data_ptr<float>() + r * n;
    if (row != values) std::copy(values, values + n, row);
  }
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType dtype) {
  if (!x.is_cpu()) return portable::RmsNorm(x, weight, eps, dtype);
  return RmsNormFn::apply(x.contiguous(), weight, eps, static_cast<int64_t>(dtype));
}

Tensor GateLogit(const Tensor& h, const Tensor& weight, const Tensor& bias) {
  if (!h.is_cpu()) return portable::GateLogit(h, weight, bias);
  return GateLogitFn::apply(h.detach(), weight, bias);
}

Tensor SplitHeads(const Tensor& x, int64_t batch, int64_t head_dim, const Tensor& cosines, const Tensor& sines,
                  kernels::RopeLayout layout) {
  if (!x.is_cpu()) return portable::SplitHeads(x, batch, head_dim, cosines, sines, layout);
  return SplitHeadsFn::apply(x, batch, head_dim, Maybe(cosines), Maybe(sines), static_cast<int64_t>(layout));
}

Tensor CausalAttention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& s,
                       const AttentionMask& mask) {
  if (!q.is_cpu()) return portable::CausalAttention(q, k, v, s, mask);
  const std::vector<int64_t> dims = {s.batch, s.length, s.heads, s.kv_heads, s.head_dim, s.window};
  return AttentionFn::apply(q, k, v, dims, s.scale, Maybe(mask.visible), Maybe(mask.starts));
}

Tensor GatedActivation(const Tensor& gate, const Tensor& up, kernels::Activation activation) {
  if (!gate.is_cpu()) return portable::GatedActivation(gate, up, activation);
  return ActivationFn::apply(gate, up, activation == kernels::Activation::kGeluTanh);
}

Tensor MixBranch(const Tensor& x, const Tensor& branch, const Tensor& skip, const Tensor& bias, const Tensor& z,
                 const Tensor& keep, const Tensor& slope) {
  if (!x.is_cpu()) return portable::MixBranch(x, branch, skip, bias, z, keep, slope);
  return MixFn::apply(x, branch.contiguous(), Maybe(skip), Maybe(bias), Maybe(z), keep, slope);
}

Tensor DistillLoss(const Tensor& student, const Tensor& teacher, const Tensor& targets, double kl_weight,
                   double ce_weight, double& kl, double& nll) {
  if (!student.is_cpu()) return portable::DistillLoss(student, teacher, targets, kl_weight, ce_weight, kl, nll);
  Tensor sums = at::zeros({2}, at::kDouble);
  Tensor loss = DistillFn::apply(student, Maybe(teacher), targets, kl_weight, ce_weight, sums);
  kl = sums[0].item<double>();
  nll = sums[1].item<double>();
  return loss;
}

Tensor RowNll(const Tensor& logits, const Tensor& targets) {
  if (!logits.is_cpu()) return portable::RowNll(logits, targets);
  const auto n = Cols(logits);
  Tensor nll = at::zeros({logits.size(0)}, at::kFloat);
  ForRows(logits.size(0), [&](int64_t begin, int64_t end) {
    auto row = Scratch(n);
    for (int64_t r = begin; r < end; ++r) {
      const int32_t target = targets.data_ptr<int32_t>()[r];
      if (target >= 0) nll.data_ptr<float>()[r] = NllRow(RowAsFloat(logits, r, row.data()), target, n);
    }
  });
  return nll;
}

Tensor RowKl(const Tensor& student, const Tensor& teacher) {
  if (!student.is_cpu()) return portable::RowKl(student, teacher);
  const auto n = Cols(student);
  Tensor kl = at::empty({student.size(0)}, at::kFloat);
  ForRows(student.size(0), [&](int64_t begin, int64_t end) {
    auto s = Scratch(n);
    auto t = Scratch(n);
    for (int64_t r = begin; r < end; ++r) {
      kl.data_ptr<float>()[r] = KlRow(RowAsFloat(student, r, s.data()), RowAsFloat(teacher, r, t.data()), n);
    }
  });
  return kl;
}

Tensor TransposedProduct(const Tensor& a, const Tensor& b) {
  if (!a.is_cpu()) return at::mm(a.t(), b);
  // Padded to whole tiles.
  const auto pad = [](const Tensor& x, size_t tile) {
    const auto t = static_cast<int64_t>(tile);
    const int64_t wanted = (x.size(1) + t - 1) / t * t;
    return at::constant_pad_nd(x, {0, wanted - x.size(1)}).contiguous();
  };
  const Tensor left = pad(a, kTileRows);
  const Tensor right = pad(b, kTileCols);
  Tensor out = at::empty({left.size(1), right.size(1)}, at::kFloat);
  const size_t m = Cols(left);
  const size_t n = Cols(right);
  at::parallel_for(0, static_cast<int64_t>(m / kTileRows), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin) * kTileRows; i < static_cast<size_t>(end) * kTileRows; i += kTileRows) {
      for (size_t j = 0; j < n; j += kTileCols) {
        TransposedProductTile(left.data_ptr<float>() + i, m, right.data_ptr<float>() + j, n,
                              static_cast<size_t>(left.size(0)), out.data_ptr<float>() + i * n + j, n);
      }
    }
  });
  return out.slice(0, 0, a.size(1)).slice(1, 0, b.size(1)).contiguous();
}

}  // namespace gateskip::train
