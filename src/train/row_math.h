// SPDX-License-Identifier: Apache-2.0
// The elementwise work of the training engine, one row at a time in f32: norms, softmax, gated activations,
// losses, and their derivatives. Plain C++ loops the compiler vectorises (bf16 matrix products are so fast on
// current CPUs that LibTorch 1.13's scalar bf16 softmax alone would take longer than all of them).
#pragma once

#include <cstddef>
#include <cstdint>

namespace gateskip::train {

void WidenRow(const uint16_t* in, float* out, size_t n);   // bf16 -> f32
void NarrowRow(const float* in, uint16_t* out, size_t n);  // f32 -> bf16, nearest even

float DotRow(const float* a, const float* b, size_t n);
void AxpyRow(float a, const float* x, float* y, size_t n);  // y += a x

// One tile of A' B: out[i][j] = sum over rows r of a[r][i] * b[r][j], for kTileRows columns of a and kTileCols of b.
constexpr size_t kTileRows = 6, kTileCols = 64;
void TransposedProductTile(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t rows, float* out,
                           size_t out_stride);

// out = x / rms(x) * weight; returns 1 / rms(x) (arXiv 1910.07467).
float RmsNormRow(const float* x, const float* weight, float eps, float* out, size_t n);
void RmsNormBackwardRow(const float* x, const float* weight, float inverse_rms, const float* dout, float* dx, size_t n);
// dweight += dout * x / rms(x).
void RmsNormWeightGradientRow(const float* x, float inverse_rms, const float* dout, float* dweight, size_t n);

// p = softmax(scale * s).
void SoftmaxRow(const float* s, float scale, float* p, size_t n);
// ds = scale * p (dp - p . dp).
void SoftmaxBackwardRow(const float* p, const float* dp, float scale, float* ds, size_t n);

// out = activation(gate) * up, and the derivatives by both.
void SiluMulRow(const float* gate, const float* up, float* out, size_t n);
void SiluMulBackwardRow(const float* gate, const float* up, const float* dout, float* dgate, float* dup, size_t n);
void GeluMulRow(const float* gate, const float* up, float* out, size_t n);  // tanh form
void GeluMulBackwardRow(const float* gate, const float* up, const float* dout, float* dgate, float* dup, size_t n);

struct LossRow {
  float kl = 0;   // KL(teacher || student), nats
  float nll = 0;  // -log p(target), 0 when target < 0
};
// Overwrites `student` (logits) by the derivative of kl_weight * KL + ce_weight * NLL. teacher and student [n]; no KL
// without a teacher (null).
LossRow DistillRow(float* student, const float* teacher, int32_t target, float kl_weight, float ce_weight, size_t n);
// -log softmax(logits)[target].
float NllRow(const float* logits, int32_t target, size_t n);
// KL(softmax(teacher) || softmax(student)).
float KlRow(const float* student, const float* teacher, size_t n);

// One AdamW step (arXiv 1711.05101) of n weights: m and v are the moments, g the gradient times gradient_scale.
// w -= decay * w + step * m / (sqrt(v) * root + epsilon); the bias corrections are in step and root.
struct AdamWStep {
  float beta1, beta2, gradient_scale, decay, step, root, epsilon;
};
void AdamWRow(const AdamWStep& a, const float* g, float* w, float* m, float* v, size_t n);
// Sum of squares, accumulated in f64.
double SquareSumRow(const float* x, size_t n);

}  // namespace gateskip::train
