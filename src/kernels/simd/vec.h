// SPDX-License-Identifier: Apache-2.0
// Sixteen f32 or i32 lanes on any x86-64 target: VecF and VecI with arithmetic operators, and the primitives that the
// kernels are written in. Included by one file per target, inside that target's own namespace (after immintrin.h);
// everything is static and nothing comes from shared inline code, so no instruction leaks to older machines.
//
// Of each register width (vec_avx512.h, vec_avx2.h):
//   LoadF StoreF LoadI SetF SetI       whole vectors, any alignment; one value in every lane
//   ToF RoundI AsF AsI                 value | nearest integer | the same bits
//   GreaterEqual Equal Select          masks of all bits
//   Fma MaxF MinF RoundF ReduceMax ReduceAddI
//   LoadHalf StoreHalf LoadBf16        16-bit floats
//   LoadCodes StoreCodes               signed 8-bit integers
//   Deinterleave Interleave            pairs
//   DotCodes(acc, codes, x)            acc[lane] += sum of 4 products of unsigned codes (the lane's bytes, at most 255)
//                                      and signed activations (LoadGroup, within [-127, 127])
//   BeginNibbles DotNibbles EndNibbles the same for codes of 4 bits, which leave room where there is no instruction for
//                                      it: a block of 32, eight dot products into one lane, is summed in 16 bits first
//                                      (8 * 2 * 15 * 127 < 2^15)
//
// Why not Highway: 1.0.3, the packaged version, has no 8-bit dot product, which is most of this engine.
#define GS_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include "kernels/simd/vec_avx512.h"
#else
#include "kernels/simd/vec_avx2.h"
#endif

// Fixed-order tree: the same for every row, every call.
GS_INLINE float ReduceAdd(VecF v) {
  float lanes[16];
  StoreF(lanes, v);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// The same 4 activations in every lane.
GS_INLINE VecI LoadGroup(const int8_t* x4) {
  int32_t packed;
  __builtin_memcpy(&packed, x4, 4);
  return SetI(packed);
}

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
  const VecI exponent = (RoundI(n) + SetI(127)) << 23;
  const VecF result = p * AsF(exponent);
  return AsF(AsI(result) & GreaterEqual(x, SetF(-87.0f)));
}
