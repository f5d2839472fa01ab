// SPDX-License-Identifier: Apache-2.0
// Per-row ops: quantisation, norms, dots, activations, adds. Included once per target after vec.h. Tails shorter
// than a vector go through a padded copy, so that they take the same path as the rest.

GS_INLINE VecF LoadTail(const float* p, size_t n, float fill) {
  float lanes[16];
  for (size_t i = 0; i < 16; ++i) lanes[i] = i < n ? p[i] : fill;
  return LoadF(lanes);
}
GS_INLINE void StoreTail(float* p, VecF v, size_t n) {
  for (size_t i = 0; i < n; ++i) p[i] = v[i];
}

static void QuantizeRow(const float* x, size_t cols, const QuantizedRow& out) {
  const size_t blocks = (cols + kBlock - 1) / kBlock;
  const VecI abs_mask = SetI(0x7FFFFFFF);
  for (size_t b = 0; b < blocks; ++b) {
    const size_t k = b * kBlock;
    const size_t n = cols - k < kBlock ? cols - k : kBlock;
    VecF v[2];
    v[0] = n >= 16 ? LoadF(x + k) : LoadTail(x + k, n, 0.0f);
    v[1] = n >= 32 ? LoadF(x + k + 16) : (n > 16 ? LoadTail(x + k + 16, n - 16, 0.0f) : SetF(0.0f));
    const float largest = ReduceMax(MaxF(AsF(AsI(v[0]) & abs_mask), AsF(AsI(v[1]) & abs_mask)));
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    int32_t sums[2];
    for (int s = 0; s < 2; ++s) {
      const VecI q = RoundI(v[s] * SetF(inverse));
      StoreCodes(out.codes + k + (size_t)s * 16, q);
      out.sums[b * 2 + (size_t)s] = sums[s] = ReduceAddI(q);
    }
    out.scales[b] = largest / 127.0f;
    out.scaled_sums[b] = out.scales[b] * (float)(sums[0] + sums[1]);
  }
}

static float Dot(const float* a, const float* b, size_t n) {
  VecF acc0 = SetF(0.0f), acc1 = SetF(0.0f);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    acc0 = Fma(LoadF(a + i), LoadF(b + i), acc0);
    acc1 = Fma(LoadF(a + i + 16), LoadF(b + i + 16), acc1);
  }
  for (; i + 16 <= n; i += 16) acc0 = Fma(LoadF(a + i), LoadF(b + i), acc0);
  if (i < n) acc1 = Fma(LoadTail(a + i, n - i, 0.0f), LoadTail(b + i, n - i, 0.0f), acc1);
  return ReduceAdd(acc0 + acc1);
}

static void RmsNorm(const float* x, const float* weight, size_t n, float eps, float* out) {
  const float scale = 1.0f / __builtin_sqrtf(Dot(x, x, n) / (float)n + eps);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(out + i, LoadF(x + i) * SetF(scale) * LoadF(weight + i));
  if (i < n) {
    StoreTail(out + i, LoadTail(x + i, n - i, 0.0f) * SetF(scale) * LoadTail(weight + i, n - i, 0.0f), n - i);
  }
}

GS_INLINE VecF Sigmoid(VecF x) { return SetF(1.0f) / (SetF(1.0f) + ExpF(-x)); }
GS_INLINE VecF Silu(VecF x) { return x * Sigmoid(x); }
// 0.5 x (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3) (arXiv 1606.08415).
GS_INLINE VecF GeluTanh(VecF x) {
  const VecF u = SetF(0.7978845608028654f) * (x + SetF(0.044715f) * x * x * x);
  return x * Sigmoid(u + u);
}

static void GatedSilu(float* gate, const float* up, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(gate + i, Silu(LoadF(gate + i)) * LoadF(up + i));
  if (i < n) StoreTail(gate + i, Silu(LoadTail(gate + i, n - i, 0.0f)) * LoadTail(up + i, n - i, 0.0f), n - i);
}

static void GatedGelu(float* gate, const float* up, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(gate + i, GeluTanh(LoadF(gate + i)) * LoadF(up + i));
  if (i < n) StoreTail(gate + i, GeluTanh(LoadTail(gate + i, n - i, 0.0f)) * LoadTail(up + i, n - i, 0.0f), n - i);
}

static void SigmoidRow(const float* logits, const float* bias, size_t n, float* out) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(out + i, Sigmoid(LoadF(logits + i) + LoadF(bias + i)));
  if (i < n) {
    StoreTail(out + i, Sigmoid(LoadTail(logits + i, n - i, 0.0f) + LoadTail(bias + i, n - i, 0.0f)), n - i);
  }
}

static void Add(const float* x, size_t n, float* y) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(y + i, LoadF(y + i) + LoadF(x + i));
  for (; i < n; ++i) y[i] += x[i];
}

static void AddScaled(const float* x, float scale, size_t n, float* y) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(y + i, Fma(SetF(scale), LoadF(x + i), LoadF(y + i)));
  if (i < n) StoreTail(y + i, Fma(SetF(scale), LoadTail(x + i, n - i, 0.0f), LoadTail(y + i, n - i, 0.0f)), n - i);
}

static void AddProduct(const float* x, const float* gate, size_t n, float* y) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreF(y + i, Fma(LoadF(gate + i), LoadF(x + i), LoadF(y + i)));
  if (i < n) {
    StoreTail(y + i, Fma(LoadTail(gate + i, n - i, 0.0f), LoadTail(x + i, n - i, 0.0f), LoadTail(y + i, n - i, 0.0f)),
              n - i);
  }
}

static void RopeHead(float* head, RopeLayout layout, const float* cosine, const float* sine, size_t n) {
  const int pairs = layout == RopeLayout::kInterleaved;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    float* first = head + (pairs ? 2 * i : i);
    float* second = pairs ? first + 16 : first + n;
    VecF a = LoadF(first), b = LoadF(second);
    if (pairs) Deinterleave(a, b, &a, &b);
    const VecF c = LoadF(cosine + i), s = LoadF(sine + i);
    VecF x = a * c - b * s, y = a * s + b * c;
    if (pairs) Interleave(x, y, &x, &y);
    StoreF(first, x);
    StoreF(second, y);
  }
  for (; i < n; ++i) {
    float* first = head + (pairs ? 2 * i : i);
    float* second = pairs ? first + 1 : first + n;
    const float a = *first, b = *second;
    *first = a * cosine[i] - b * sine[i];
    *second = a * sine[i] + b * cosine[i];
  }
}

static void ToHalf(const float* x, size_t n, uint16_t* out) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) StoreHalf(out + i, LoadF(x + i));
  if (i == n) return;
  uint16_t tail[16];
  StoreHalf(tail, LoadTail(x + i, n - i, 0.0f));
  for (size_t j = 0; i + j < n; ++j) out[i + j] = tail[j];
}

// Exponentials in f32, their sum in f64; a NaN stays one, which ExpF alone would lose.
static double SumExp(const float* x, size_t n, float largest) {
  typedef float Quad __attribute__((vector_size(16)));
  typedef double QuadD __attribute__((vector_size(32)));
  QuadD sums[4] = {};
  for (size_t i = 0; i < n; i += 16) {
    const VecF v = n - i >= 16 ? LoadF(x + i) : LoadTail(x + i, n - i, -__builtin_inff());
    const VecF e = Select(Equal(v, v), ExpF(v - SetF(largest)), v);
    Quad quads[4];
    __builtin_memcpy(quads, &e, sizeof(e));
    for (int j = 0; j < 4; ++j) sums[j] += __builtin_convertvector(quads[j], QuadD);
  }
  const QuadD low = sums[0] + sums[2], high = sums[1] + sums[3];
  double sum = 0;
  for (int j = 0; j < 4; ++j) sum += low[j];
  for (int j = 0; j < 4; ++j) sum += high[j];
  return sum;
}

// The lowest index of the largest.
static size_t ArgMax(const float* x, size_t n) {
  VecF largest = SetF(x[0]);
  for (size_t i = 0; i < n; i += 16) {
    largest = MaxF(largest, n - i >= 16 ? LoadF(x + i) : LoadTail(x + i, n - i, x[0]));
  }
  const float value = ReduceMax(largest);
  for (size_t i = 0; i < n; ++i) {
    if (x[i] == value) return i;
  }
  return 0;
}
