// SPDX-License-Identifier: Apache-2.0
// The primitives of vec.h with pairs of 256-bit registers. Included by vec.h only.
//
// Structs, not the compiler's 64-byte vectors: without a register of that size those live in memory, and every
// operation goes through the stack (GCC 12: a tenth of the speed).
typedef float HalfF __attribute__((vector_size(32)));
typedef int32_t HalfI __attribute__((vector_size(32)));

struct VecF {
  HalfF lo, hi;
  float operator[](size_t i) const { return i < 8 ? lo[i] : hi[i - 8]; }
};
struct VecI {
  HalfI lo, hi;
};

#define GS_PAIRWISE(type, op) \
  GS_INLINE type operator op(type a, type b) { return {a.lo op b.lo, a.hi op b.hi}; }
GS_PAIRWISE(VecF, +)
GS_PAIRWISE(VecF, -)
GS_PAIRWISE(VecF, *)
GS_PAIRWISE(VecF, /)
GS_PAIRWISE(VecI, +)
GS_PAIRWISE(VecI, &)
#undef GS_PAIRWISE
GS_INLINE VecF operator-(VecF a) { return {-a.lo, -a.hi}; }
GS_INLINE VecI operator<<(VecI a, int bits) { return {a.lo << bits, a.hi << bits}; }
GS_INLINE VecI operator>>(VecI a, int bits) { return {a.lo >> bits, a.hi >> bits}; }

GS_INLINE VecF LoadF(const float* p) { return {(HalfF)_mm256_loadu_ps(p), (HalfF)_mm256_loadu_ps(p + 8)}; }
GS_INLINE void StoreF(float* p, VecF v) {
  _mm256_storeu_ps(p, (__m256)v.lo);
  _mm256_storeu_ps(p + 8, (__m256)v.hi);
}
GS_INLINE VecI LoadI(const void* p) {
  const __m256i* halves = (const __m256i*)p;
  return {(HalfI)_mm256_loadu_si256(halves), (HalfI)_mm256_loadu_si256(halves + 1)};
}
GS_INLINE VecF SetF(float v) {
  const HalfF half = (HalfF)_mm256_set1_ps(v);
  return {half, half};
}
GS_INLINE VecI SetI(int32_t v) {
  const HalfI half = (HalfI)_mm256_set1_epi32(v);
  return {half, half};
}
GS_INLINE VecF ToF(VecI v) {
  return {(HalfF)_mm256_cvtepi32_ps((__m256i)v.lo), (HalfF)_mm256_cvtepi32_ps((__m256i)v.hi)};
}
GS_INLINE VecF AsF(VecI v) { return {(HalfF)v.lo, (HalfF)v.hi}; }
GS_INLINE VecI AsI(VecF v) { return {(HalfI)v.lo, (HalfI)v.hi}; }
GS_INLINE VecI GreaterEqual(VecF a, VecF b) { return {a.lo >= b.lo, a.hi >= b.hi}; }
GS_INLINE VecI Equal(VecF a, VecF b) { return {a.lo == b.lo, a.hi == b.hi}; }
GS_INLINE VecI Equal(VecI a, VecI b) { return {a.lo == b.lo, a.hi == b.hi}; }
GS_INLINE VecF Select(VecI mask, VecF a, VecF b) { return {mask.lo ? a.lo : b.lo, mask.hi ? a.hi : b.hi}; }

GS_INLINE VecF Fma(VecF a, VecF b, VecF c) {
  return {(HalfF)_mm256_fmadd_ps((__m256)a.lo, (__m256)b.lo, (__m256)c.lo),
          (HalfF)_mm256_fmadd_ps((__m256)a.hi, (__m256)b.hi, (__m256)c.hi)};
}
GS_INLINE VecF MaxF(VecF a, VecF b) {
  return {(HalfF)_mm256_max_ps((__m256)a.lo, (__m256)b.lo), (HalfF)_mm256_max_ps((__m256)a.hi, (__m256)b.hi)};
}
GS_INLINE VecF MinF(VecF a, VecF b) {
  return {(HalfF)_mm256_min_ps((__m256)a.lo, (__m256)b.lo), (HalfF)_mm256_min_ps((__m256)a.hi, (__m256)b.hi)};
}
GS_INLINE VecF RoundF(VecF a) {
  return {(HalfF)_mm256_round_ps((__m256)a.lo, 0), (HalfF)_mm256_round_ps((__m256)a.hi, 0)};
}
GS_INLINE VecI RoundI(VecF a) {
  return {(HalfI)_mm256_cvtps_epi32((__m256)a.lo), (HalfI)_mm256_cvtps_epi32((__m256)a.hi)};
}

GS_INLINE VecF LoadHalf(const uint16_t* p) {
  return {(HalfF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          (HalfF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
GS_INLINE void StoreHalf(uint16_t* p, VecF v) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v.lo, 0));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph((__m256)v.hi, 0));
}
GS_INLINE VecF LoadBf16(const uint16_t* p) {
  const VecI wide = {(HalfI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)),
                     (HalfI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(p + 8)))};
  return AsF(wide << 16);
}
GS_INLINE VecF LoadCodes(const int8_t* p) {
  return ToF(VecI{(HalfI)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)),
                  (HalfI)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))});
}
GS_INLINE void StoreCodes(int8_t* p, VecI v) {
  // Saturating packs work within 128-bit lanes; the codes are in [-127, 127], so nothing saturates.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v.lo, (__m256i)v.hi), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i*)p, bytes);
}

GS_INLINE float ReduceMax(VecF v) {
  const __m256 eight = _mm256_max_ps((__m256)v.lo, (__m256)v.hi);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
GS_INLINE int32_t ReduceAddI(VecI v) {
  const __m256i eight = (__m256i)(v.lo + v.hi);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

// a, b: 32 elements in a row. Those at even places into the first, at odd ones into the second; and back.
GS_INLINE void Deinterleave(VecF a, VecF b, VecF* even, VecF* odd) {
  *even = {__builtin_shufflevector(a.lo, a.hi, 0, 2, 4, 6, 8, 10, 12, 14),
           __builtin_shufflevector(b.lo, b.hi, 0, 2, 4, 6, 8, 10, 12, 14)};
  *odd = {__builtin_shufflevector(a.lo, a.hi, 1, 3, 5, 7, 9, 11, 13, 15),
          __builtin_shufflevector(b.lo, b.hi, 1, 3, 5, 7, 9, 11, 13, 15)};
}
GS_INLINE void Interleave(VecF even, VecF odd, VecF* a, VecF* b) {
  *a = {__builtin_shufflevector(even.lo, odd.lo, 0, 8, 1, 9, 2, 10, 3, 11),
        __builtin_shufflevector(even.lo, odd.lo, 4, 12, 5, 13, 6, 14, 7, 15)};
  *b = {__builtin_shufflevector(even.hi, odd.hi, 0, 8, 1, 9, 2, 10, 3, 11),
        __builtin_shufflevector(even.hi, odd.hi, 4, 12, 5, 13, 6, 14, 7, 15)};
}

// Widened to 16 bits first: maddubs would saturate for codes above 128.
GS_INLINE HalfI DotCodesHalf(HalfI acc, __m256i codes, __m256i x) {
  const __m256i mask = _mm256_set1_epi16(0x00FF);
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, mask), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
  return acc + (HalfI)_mm256_add_epi32(even, odd);
}
GS_INLINE VecI DotCodes(VecI acc, VecI codes, VecI x) {
  return {DotCodesHalf(acc.lo, (__m256i)codes.lo, (__m256i)x.lo),
          DotCodesHalf(acc.hi, (__m256i)codes.hi, (__m256i)x.hi)};
}
GS_INLINE VecI BeginNibbles(VecI) { return SetI(0); }
GS_INLINE VecI DotNibbles(VecI sums, VecI codes, VecI x) {
  return {(HalfI)_mm256_add_epi16((__m256i)sums.lo, _mm256_maddubs_epi16((__m256i)codes.lo, (__m256i)x.lo)),
          (HalfI)_mm256_add_epi16((__m256i)sums.hi, _mm256_maddubs_epi16((__m256i)codes.hi, (__m256i)x.hi))};
}
GS_INLINE VecI EndNibbles(VecI acc, VecI sums) {
  const __m256i one = _mm256_set1_epi16(1);
  return acc + VecI{(HalfI)_mm256_madd_epi16((__m256i)sums.lo, one), (HalfI)_mm256_madd_epi16((__m256i)sums.hi, one)};
}
