// SPDX-License-Identifier: Apache-2.0
#include "train/row_math.h"

#include <algorithm>
#include <bit>
#include <cmath>

// One copy per instruction set, chosen when the program starts. `omp simd` allows the reductions to be
// reassociated (the file is compiled with -fopenmp-simd; no OpenMP run time is involved).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define GS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GS_CLONES
#endif

namespace gateskip::train {
namespace {

// exp(x) for x <= 88, relative error < 2e-7: Cephes' expf with the range reduction done by adding 1.5 * 2^23.
[[gnu::always_inline]] inline float Exp(float x) {
  x = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
  constexpr float kRound = 12582912.0F;
  const float n = (x * 1.44269504088896341F + kRound) - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

[[gnu::always_inline]] inline float Sigmoid(float x) { return 1.0F / (1.0F + Exp(-x)); }

constexpr float kGeluScale = 0.7978845608028654F;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715F;

[[gnu::always_inline]] inline float Max(const float* x, size_t n) {
  float m = x[0];
#pragma omp simd reduction(max : m)
  for (size_t i = 0; i < n; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

[[gnu::always_inline]] inline float SumExp(const float* x, float shift, size_t n) {
  float s = 0.0F;
#pragma omp simd reduction(+ : s)
  for (size_t i = 0; i < n; ++i) s += Exp(x[i] - shift);
  return s;
}

}  // namespace

GS_CLONES void WidenRow(const uint16_t* in, float* out, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(in[i]) << 16);
}

GS_CLONES void NarrowRow(const float* in, uint16_t* out, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(in[i]);
    const uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
    // NaN stays NaN: rounding up could carry its mantissa into infinity.
    out[i] = static_cast<uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? (bits >> 16) | 0x40U : rounded >> 16);
  }
}

GS_CLONES float DotRow(const float* a, const float* b, size_t n) {
  float s = 0.0F;
#pragma omp simd reduction(+ : s)
  for (size_t i = 0; i < n; ++i) s += a[i] * b[i];
  return s;
}

GS_CLONES void AxpyRow(float a, const float* x, float* y, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

GS_CLONES void TransposedProductTile(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t rows,
                                     float* out, size_t out_stride) {
  float sum[kTileRows][kTileCols] = {};  // registers
  for (size_t r = 0; r < rows; ++r) {
    const float* x = a + r * a_stride;
    const float* y = b + r * b_stride;
#pragma GCC unroll 6
    for (size_t i = 0; i < kTileRows; ++i) {
#pragma omp simd
      for (size_t j = 0; j < kTileCols; ++j) sum[i][j] += x[i] * y[j];
    }
  }
  for (size_t i = 0; i < kTileRows; ++i) std::copy(sum[i], sum[i] + kTileCols, out + i * out_stride);
}

GS_CLONES float RmsNormRow(const float* x, const float* weight, float eps, float* out, size_t n) {
  float s = 0.0F;
#pragma omp simd reduction(+ : s)
  for (size_t i = 0; i < n; ++i) s += x[i] * x[i];
  const float inverse = 1.0F / std::sqrt(s / static_cast<float>(n) + eps);
#pragma omp simd
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * inverse * weight[i];
  return inverse;
}

GS_CLONES void RmsNormBackwardRow(const float* x, const float* weight, float inverse_rms, const float* dout, float* dx,
                                  size_t n) {
  float dot = 0.0F;
#pragma omp simd reduction(+ : dot)
  for (size_t i = 0; i < n; ++i) dot += dout[i] * weight[i] * x[i];
  const float c = dot * inverse_rms * inverse_rms / static_cast<float>(n);
#pragma omp simd
  for (size_t i = 0; i < n; ++i) dx[i] = inverse_rms * (dout[i] * weight[i] - c * x[i]);
}

GS_CLONES void RmsNormWeightGradientRow(const float* x, float inverse_rms, const float* dout, float* dweight,
                                        size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) dweight[i] += dout[i] * x[i] * inverse_rms;
}

GS_CLONES void SoftmaxRow(const float* s, float scale, float* p, size_t n) {
  const float m = Max(s, n);
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; ++i) {
    p[i] = Exp(scale * (s[i] - m));
    sum += p[i];
  }
  const float inverse = 1.0F / sum;
#pragma omp simd
  for (size_t i = 0; i < n; ++i) p[i] *= inverse;
}

GS_CLONES void SoftmaxBackwardRow(const float* p, const float* dp, float scale, float* ds, size_t n) {
  float dot = 0.0F;
#pragma omp simd reduction(+ : dot)
  for (size_t i = 0; i < n; ++i) dot += p[i] * dp[i];
#pragma omp simd
  for (size_t i = 0; i < n; ++i) ds[i] = scale * p[i] * (dp[i] - dot);
}

GS_CLONES void SiluMulRow(const float* gate, const float* up, float* out, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) out[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

GS_CLONES void SiluMulBackwardRow(const float* gate, const float* up, const float* dout, float* dgate, float* dup,
                                  size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) {
    const float g = gate[i];
    const float s = Sigmoid(g);
    dup[i] = dout[i] * g * s;
    dgate[i] = dout[i] * up[i] * s * (1.0F + g * (1.0F - s));
  }
}

GS_CLONES void GeluMulRow(const float* gate, const float* up, float* out, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) {
    const float g = gate[i];
    // 0.5 (1 + tanh u) = sigmoid(2 u)
    out[i] = g * Sigmoid(2.0F * kGeluScale * (g + kGeluCubic * g * g * g)) * up[i];
  }
}

GS_CLONES void GeluMulBackwardRow(const float* gate, const float* up, const float* dout, float* dgate, float* dup,
                                  size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) {
    const float g = gate[i];
    const float s = Sigmoid(2.0F * kGeluScale * (g + kGeluCubic * g * g * g));
    const float du = 2.0F * kGeluScale * (1.0F + 3.0F * kGeluCubic * g * g);
    dup[i] = dout[i] * g * s;
    dgate[i] = dout[i] * up[i] * (s + g * s * (1.0F - s) * du);
  }
}

GS_CLONES LossRow DistillRow(float* student, const float* teacher, int32_t target, float kl_weight, float ce_weight,
                             size_t n) {
  const float ms = Max(student, n);
  const float sum_s = SumExp(student, ms, n);
  const float log_s = std::log(sum_s);
  LossRow loss;
  if (target >= 0) loss.nll = log_s - (student[static_cast<size_t>(target)] - ms);
  const float ce = target >= 0 ? ce_weight : 0.0F;
  if (teacher == nullptr) {
    const float scale = ce / sum_s;
#pragma omp simd
    for (size_t i = 0; i < n; ++i) student[i] = scale * Exp(student[i] - ms);
  } else {
    const float mt = Max(teacher, n);
    float sum_t = 0.0F;
    float cross = 0.0F;  // sum exp(t - mt) ((t - mt) - (s - ms))
#pragma omp simd reduction(+ : sum_t, cross)
    for (size_t i = 0; i < n; ++i) {
      const float e = Exp(teacher[i] - mt);
      sum_t += e;
      cross += e * ((teacher[i] - mt) - (student[i] - ms));
    }
    loss.kl = cross / sum_t - std::log(sum_t) + log_s;
    const float student_scale = (kl_weight + ce) / sum_s;
    const float teacher_scale = kl_weight / sum_t;
#pragma omp simd
    for (size_t i = 0; i < n; ++i) {
      student[i] = student_scale * Exp(student[i] - ms) - teacher_scale * Exp(teacher[i] - mt);
    }
  }
  if (target >= 0) student[static_cast<size_t>(target)] -= ce;
  return loss;
}

GS_CLONES float NllRow(const float* logits, int32_t target, size_t n) {
  const float m = Max(logits, n);
  return std::log(SumExp(logits, m, n)) - (logits[static_cast<size_t>(target)] - m);
}

GS_CLONES float KlRow(const float* student, const float* teacher, size_t n) {
  const float ms = Max(student, n);
  const float mt = Max(teacher, n);
  const float sum_s = SumExp(student, ms, n);
  float sum_t = 0.0F;
  float cross = 0.0F;
#pragma omp simd reduction(+ : sum_t, cross)
  for (size_t i = 0; i < n; ++i) {
    const float e = Exp(teacher[i] - mt);
    sum_t += e;
    cross += e * ((teacher[i] - mt) - (student[i] - ms));
  }
  return cross / sum_t - std::log(sum_t) + std::log(sum_s);
}

GS_CLONES void AdamWRow(const AdamWStep& a, const float* g, float* w, float* m, float* v, size_t n) {
#pragma omp simd
  for (size_t i = 0; i < n; ++i) {
    const float gi = g[i] * a.gradient_scale;
    m[i] = a.beta1 * m[i] + (1.0F - a.beta1) * gi;
    v[i] = a.beta2 * v[i] + (1.0F - a.beta2) * gi * gi;
    w[i] -= a.decay * w[i] + a.step * m[i] / (std::sqrt(v[i]) * a.root + a.epsilon);
  }
}

GS_CLONES double SquareSumRow(const float* x, size_t n) {
  double s = 0.0;
#pragma omp simd reduction(+ : s)
  for (size_t i = 0; i < n; ++i) s += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return s;
}

}  // namespace gateskip::train
