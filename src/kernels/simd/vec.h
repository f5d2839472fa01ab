// SPDX-License-Identifier: Apache-2.0
// Sixteen f32 or i32 lanes on any x86-64 target, through the compiler's vector extensions plus the few
// instructions they do not cover. Included by one file per target, inside that target's own namespace (after
// immintrin.h); everything is static and nothing comes from shared inline code, so no instruction leaks to older
// machines.
//
// Why not Highway: 1.0.3, the packaged version, has no 8-bit dot product, which is most of this engine.
typedef float VecF __attribute__((vector_size(64), aligned(64)));
typedef int32_t VecI __attribute__((vector_size(64), aligned(64)));
typedef float VecFU __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t VecIU __attribute__((vector_size(64), aligned(4), may_alias));

#define GS_INLINE static inline __attribute__((always_inline))

GS_INLINE VecF LoadF(const float* p) { return *(const VecFU*)p; }
GS_INLINE void StoreF(float* p, VecF v) { *(VecFU*)p = v; }
GS_INLINE VecF SetF(float v) { return VecF{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }
GS_INLINE VecI SetI(int32_t v) { return VecI{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }
GS_INLINE VecF ToF(VecI v) { return __builtin_convertvector(v, VecF); }

#if defined(__AVX512F__)
GS_INLINE VecF Fma(VecF a, VecF b, VecF c) { return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
GS_INLINE VecF MaxF(VecF a, VecF b) { return (VecF)_mm512_max_ps((__m512)a, (__m512)b); }
GS_INLINE VecF MinF(VecF a, VecF b) { return (VecF)_mm512_min_ps((__m512)a, (__m512)b); }
GS_INLINE VecF RoundF(VecF a) { return (VecF)_mm512_roundscale_ps((__m512)a, 0); }
GS_INLINE VecF LoadHalf(const uint16_t* p) { return (VecF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
GS_INLINE VecI RoundI(VecF a) { return (VecI)_mm512_cvtps_epi32((__m512)a); }
GS_INLINE void StoreHalf(uint16_t* p, VecF v) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, 0)); }
#else
typedef float VecF8 __attribute__((vector_size(32)));
struct HalvesF {
  VecF8 lo, hi;
};
GS_INLINE HalvesF Split(VecF v) {
  HalvesF h;
  __builtin_memcpy(&h, &v, sizeof(v));
  return h;
}
GS_INLINE VecF Join(__m256 lo, __m256 hi) {
  VecF v;
  __builtin_memcpy(&v, &lo, 32);
  __builtin_memcpy((char*)&v + 32, &hi, 32);
  return v;
}
struct HalvesI {
  __m256i lo, hi;
};
GS_INLINE HalvesI SplitI(VecI v) {
  HalvesI h;
  __builtin_memcpy(&h, &v, sizeof(v));
  return h;
}
GS_INLINE VecI JoinI(__m256i lo, __m256i hi) {
  VecI v;
  __builtin_memcpy(&v, &lo, 32);
  __builtin_memcpy((char*)&v + 32, &hi, 32);
  return v;
}
GS_INLINE VecF Fma(VecF a, VecF b, VecF c) {
  const HalvesF x = Split(a), y = Split(b), z = Split(c);
  return Join(_mm256_fmadd_ps((__m256)x.lo, (__m256)y.lo, (__m256)z.lo),
              _mm256_fmadd_ps((__m256)x.hi, (__m256)y.hi, (__m256)z.hi));
}
GS_INLINE VecF MaxF(VecF a, VecF b) {
  const HalvesF x = Split(a), y = Split(b);
  return Join(_mm256_max_ps((__m256)x.lo, (__m256)y.lo), _mm256_max_ps((__m256)x.hi, (__m256)y.hi));
}
GS_INLINE VecF MinF(VecF a, VecF b) {
  const HalvesF x = Split(a), y = Split(b);
  return Join(_mm256_min_ps((__m256)x.lo, (__m256)y.lo), _mm256_min_ps((__m256)x.hi, (__m256)y.hi));
}
GS_INLINE VecF RoundF(VecF a) {
  const HalvesF x = Split(a);
  return Join(_mm256_round_ps((__m256)x.lo, 0), _mm256_round_ps((__m256)x.hi, 0));
}
GS_INLINE VecF LoadHalf(const uint16_t* p) {
  return Join(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
              _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8))));
}
GS_INLINE VecI RoundI(VecF a) {
  const HalvesF x = Split(a);
  return JoinI(_mm256_cvtps_epi32((__m256)x.lo), _mm256_cvtps_epi32((__m256)x.hi));
}
GS_INLINE void StoreHalf(uint16_t* p, VecF v) {
  const HalvesF x = Split(v);
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)x.lo, 0));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph((__m256)x.hi, 0));
}
#endif

// Sixteen signed 8-bit codes as floats.
#if defined(__AVX512F__)
GS_INLINE VecF LoadCodes(const int8_t* p) {
  return ToF((VecI)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
#else
GS_INLINE VecF LoadCodes(const int8_t* p) {
  return Join(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))),
              _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))));
}
#endif

GS_INLINE VecF LoadBf16(const uint16_t* p) {
  typedef uint16_t U16x16 __attribute__((vector_size(32), aligned(2), may_alias));
  typedef uint32_t U32x16 __attribute__((vector_size(64)));
  return (VecF)(__builtin_convertvector(*(const U16x16*)p, U32x16) << 16);
}

// Fixed-order tree: the same for every row, every call.
GS_INLINE float ReduceAdd(VecF v) {
  float lanes[16];
  __builtin_memcpy(lanes, &v, sizeof(v));
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
#if defined(__AVX512F__)
GS_INLINE float ReduceMax(VecF v) { return _mm512_reduce_max_ps((__m512)v); }
GS_INLINE int32_t ReduceAddI(VecI v) { return _mm512_reduce_add_epi32((__m512i)v); }
#else
GS_INLINE int32_t ReduceAddI(VecI v) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += v[i];
  return sum;
}
GS_INLINE float ReduceMax(VecF v) {
  float lanes[16];
  __builtin_memcpy(lanes, &v, sizeof(v));
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}
#endif

// The same 4 activations in every lane.
GS_INLINE VecI LoadGroup(const int8_t* x4) {
  int32_t packed;
  __builtin_memcpy(&packed, x4, 4);
  return SetI(packed);
}

// acc[lane] += sum of 4 products of unsigned codes (lane's 4 bytes) and signed activations (LoadGroup).
// Codes are at most 255 and activations within [-127, 127].
#if defined(__AVX512VNNI__)
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  return (VecI)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)codes, (__m512i)x);
}
#else
// Widened to 16 bits first: maddubs would saturate for codes above 128.
#if defined(__AVX512BW__)
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  const __m512i mask = _mm512_set1_epi16(0x00FF);
  const __m512i even =
      _mm512_madd_epi16(_mm512_and_si512((__m512i)codes, mask), _mm512_srai_epi16(_mm512_slli_epi16((__m512i)x, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16((__m512i)codes, 8), _mm512_srai_epi16((__m512i)x, 8));
  return acc + (VecI)_mm512_add_epi32(even, odd);
}
#else
GS_INLINE __m256i DotCodes8(__m256i codes, __m256i x) {
  const __m256i mask = _mm256_set1_epi16(0x00FF);
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, mask), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
  return _mm256_add_epi32(even, odd);
}
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  const HalvesI c = SplitI(codes), y = SplitI(x);
  return acc + JoinI(DotCodes8(c.lo, y.lo), DotCodes8(c.hi, y.hi));
}
#endif
#endif

// The same for 4-bit codes, which leave room where there is no such instruction: the products of a block of 32, eight
// dot products into one lane, are summed in 16 bits first (8 * 2 * 15 * 127 < 2^15). Begin, add up to eight, end.
#if defined(__AVX512VNNI__)
GS_INLINE VecI BeginNibbles(VecI acc) { return acc; }
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) { return DotCodes(sums, codes, x); }
GS_INLINE VecI EndNibbles(VecI, VecI sums) { return sums; }
#else
GS_INLINE VecI BeginNibbles(VecI) { return SetI(0); }
#if defined(__AVX512BW__)
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) {
  return (VecI)_mm512_add_epi16((__m512i)sums, _mm512_maddubs_epi16((__m512i)codes, (__m512i)x));
}
GS_INLINE VecI EndNibbles(VecI acc, VecI sums) {
  return acc + (VecI)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1));
}
#else
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) {
  const HalvesI s = SplitI(sums), c = SplitI(codes), y = SplitI(x);
  return JoinI(_mm256_add_epi16(s.lo, _mm256_maddubs_epi16(c.lo, y.lo)),
               _mm256_add_epi16(s.hi, _mm256_maddubs_epi16(c.hi, y.hi)));
}
GS_INLINE VecI EndNibbles(VecI acc, VecI sums) {
  const HalvesI s = SplitI(sums);
  const __m256i one = _mm256_set1_epi16(1);
  return acc + JoinI(_mm256_madd_epi16(s.lo, one), _mm256_madd_epi16(s.hi, one));
}
#endif
#endif

// exp(x), Cody-Waite reduction and a degree-5 polynomial (the Cephes coefficients): within 2 ulp on [-87, 88];
// below -87 the result is 0, above 88 it saturates.
GS_INLINE VecF ExpF(VecF x) {
  const VecF clamped = MinF(MaxF(x, SetF(-87.0f)), SetF(88.0f));
  const VecF n = RoundF(clamped * SetF(1.44269504088896341f));
  VecF r = Fma(n, SetF(-0.693359375f), clamped);
  r = Fma(n, SetF(2.12194440e-4f), r);
  VecF p = SetF(1.9875691500e-4f);
  p = Fma(p, r, SetF(1.3981999507e-3f));
  p = Fma(p, r, SetF(8.3334519073e-3f));
  p = Fma(p, r, SetF(4.1665795894e-2f));
  p = Fma(p, r, SetF(1.6666665459e-1f));
  p = Fma(p, r, SetF(5.0000001201e-1f));
  p = Fma(p, r * r, r + SetF(1.0f));
  const VecI exponent = (__builtin_convertvector(n, VecI) + SetI(127)) << 23;
  const VecF result = p * (VecF)exponent;
  const VecI in_range = x >= SetF(-87.0f);
  return (VecF)((VecI)result & in_range);
}
