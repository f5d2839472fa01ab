// SPDX-License-Identifier: Apache-2.0
// SHA-256 with the SHA extensions of x86: one instruction is two rounds. A checkpoint of gigabytes is hashed while it
// is written, and the plain code would take longer than the disk.
#include "base/sha256_compress.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

namespace gateskip {
namespace {

__attribute__((target("sha,sse4.1"))) __m128i LoadWords(const std::byte* bytes) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)), big_endian);
}

// The instructions keep the eight words a..h as the vectors (f, e, b, a) and (h, g, d, c), lowest lane first.
__attribute__((target("sha,sse4.1"))) void CompressX86(Sha256State& state, const std::byte* blocks, size_t count) {
  auto* words = reinterpret_cast<__m128i*>(state.data());
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1B);
  __m128i feba = _mm_alignr_epi8(badc, hgfe, 8);
  __m128i hgdc = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; count > 0; --count, blocks += kSha256BlockBytes) {
    const __m128i feba_before = feba;
    const __m128i hgdc_before = hgdc;
    __m128i w[4];  // words 4g .. 4g+3 of the message schedule in w[g % 4]
#pragma GCC unroll 4
    for (size_t g = 0; g < 4; ++g) w[g] = LoadWords(blocks + 16 * g);
#pragma GCC unroll 16
    for (size_t g = 0; g < 16; ++g) {
      const __m128i k = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kSha256Round.data() + 4 * g));
      const __m128i sum = _mm_add_epi32(w[g % 4], k);
      hgdc = _mm_sha256rnds2_epu32(hgdc, feba, sum);
      feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(sum, 0x0E));
      if (g < 12) {
        const __m128i last = w[(g + 3) % 4];
        const __m128i seven_back = _mm_alignr_epi8(last, w[(g + 2) % 4], 4);
        const __m128i partial = _mm_add_epi32(_mm_sha256msg1_epu32(w[g % 4], w[(g + 1) % 4]), seven_back);
        w[g % 4] = _mm_sha256msg2_epu32(partial, last);
      }
    }
    feba = _mm_add_epi32(feba, feba_before);
    hgdc = _mm_add_epi32(hgdc, hgdc_before);
  }
  const __m128i abef = _mm_shuffle_epi32(feba, 0x1B);
  const __m128i ghcd = _mm_shuffle_epi32(hgdc, 0xB1);
  _mm_storeu_si128(words, _mm_blend_epi16(abef, ghcd, 0xF0));
  _mm_storeu_si128(words + 1, _mm_alignr_epi8(ghcd, abef, 8));
}

}  // namespace

Sha256Compress* X86Sha256() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool sse41 = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_1) != 0;
  const bool sha = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & bit_SHA) != 0;
  return sse41 && sha ? CompressX86 : nullptr;
}

}  // namespace gateskip

#else

namespace gateskip {

Sha256Compress* X86Sha256() { return nullptr; }

}  // namespace gateskip

#endif
