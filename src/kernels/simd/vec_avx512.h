// SPDX-License-Identifier: Apache-2.0
// The primitives of vec.h with 512-bit registers: the compiler's vector extensions, and the instructions they do not
// cover. Included by vec.h only.
typedef float VecF __attribute__((vector_size(64), aligned(64)));
typedef int32_t VecI __attribute__((vector_size(64), aligned(64)));
typedef float VecFU __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t VecIU __attribute__((vector_size(64), aligned(4), may_alias));

GS_INLINE VecF LoadF(const float* p) { return *(const VecFU*)p; }
GS_INLINE void StoreF(float* p, VecF v) { *(VecFU*)p = v; }
GS_INLINE VecI LoadI(const void* p) { return *(const VecIU*)p; }
GS_INLINE VecF SetF(float v) { return (VecF)_mm512_set1_ps(v); }
GS_INLINE VecI SetI(int32_t v) { return (VecI)_mm512_set1_epi32(v); }
GS_INLINE VecF ToF(VecI v) { return __builtin_convertvector(v, VecF); }
GS_INLINE VecF AsF(VecI v) { return (VecF)v; }
GS_INLINE VecI AsI(VecF v) { return (VecI)v; }
GS_INLINE VecI GreaterEqual(VecF a, VecF b) { return a >= b; }
GS_INLINE VecI Equal(VecF a, VecF b) { return a == b; }
GS_INLINE VecI Equal(VecI a, VecI b) { return a == b; }
GS_INLINE VecF Select(VecI mask, VecF a, VecF b) { return mask ? a : b; }

GS_INLINE VecF Fma(VecF a, VecF b, VecF c) { return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
GS_INLINE VecF MaxF(VecF a, VecF b) { return (VecF)_mm512_max_ps((__m512)a, (__m512)b); }
GS_INLINE VecF MinF(VecF a, VecF b) { return (VecF)_mm512_min_ps((__m512)a, (__m512)b); }
GS_INLINE VecF RoundF(VecF a) { return (VecF)_mm512_roundscale_ps((__m512)a, 0); }
GS_INLINE VecI RoundI(VecF a) { return (VecI)_mm512_cvtps_epi32((__m512)a); }

GS_INLINE VecF LoadHalf(const uint16_t* p) { return (VecF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
GS_INLINE void StoreHalf(uint16_t* p, VecF v) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, 0)); }
GS_INLINE VecF LoadBf16(const uint16_t* p) {
  return AsF((VecI)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)) << 16);
}
GS_INLINE VecF LoadCodes(const int8_t* p) {
  return ToF((VecI)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
GS_INLINE void StoreCodes(int8_t* p, VecI v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v)); }

GS_INLINE float ReduceMax(VecF v) { return _mm512_reduce_max_ps((__m512)v); }
GS_INLINE int32_t ReduceAddI(VecI v) { return _mm512_reduce_add_epi32((__m512i)v); }

// a, b: 32 elements in a row. Those at even places into the first, at odd ones into the second; and back.
GS_INLINE void Deinterleave(VecF a, VecF b, VecF* even, VecF* odd) {
  *even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  *odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
GS_INLINE void Interleave(VecF even, VecF odd, VecF* a, VecF* b) {
  *a = __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  *b = __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

#if defined(__AVX512VNNI__)
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  return (VecI)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)codes, (__m512i)x);
}
GS_INLINE VecI BeginNibbles(VecI acc) { return acc; }
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) { return DotCodes(sums, codes, x); }
GS_INLINE VecI EndNibbles(VecI, VecI sums) { return sums; }
#else
// Widened to 16 bits first: maddubs would saturate for codes above 128.
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  const __m512i mask = _mm512_set1_epi16(0x00FF);
  const __m512i even =
      _mm512_madd_epi16(_mm512_and_si512((__m512i)codes, mask), _mm512_srai_epi16(_mm512_slli_epi16((__m512i)x, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16((__m512i)codes, 8), _mm512_srai_epi16((__m512i)x, 8));
  return acc + (VecI)_mm512_add_epi32(even, odd);
}
GS_INLINE VecI BeginNibbles(VecI) { return SetI(0); }
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) {
  return (VecI)_mm512_add_epi16((__m512i)sums, _mm512_maddubs_epi16((__m512i)codes, (__m512i)x));
}
GS_INLINE VecI EndNibbles(VecI acc, VecI sums) {
  return acc + (VecI)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1));
}
#endif
