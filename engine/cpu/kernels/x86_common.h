// Helpers of the AVX2 and AVX-512 kernels; rules as in kernels/vector_common.h.
#pragma once

#include <immintrin.h>

#include "engine/cpu/kernels/vector_common.h"

namespace tandem::engine {
namespace {

inline int32_t LoadInt32(const void* p) {
  int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

inline __m128i Load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// The sums of each kSub (16 or 32) of 256 q as int16 pairs, the operand of a madd with pairs of sub-block scales:
// pairs[i] = those of sub-blocks 2i, 2i + 1.
template <int kSub>
inline void PackPairs(const int32_t* sum16, int32_t (&pairs)[128 / kSub]) {
  __m128i four[4];
  for (int i = 0; i < 4; ++i) four[i] = Load128(sum16 + 4 * i);
  __m128i* out = reinterpret_cast<__m128i*>(pairs);
  if constexpr (kSub == 16) {
    _mm_storeu_si128(out, _mm_packs_epi32(four[0], four[1]));
    _mm_storeu_si128(out + 1, _mm_packs_epi32(four[2], four[3]));
  } else {
    _mm_storeu_si128(out, _mm_packs_epi32(_mm_hadd_epi32(four[0], four[1]), _mm_hadd_epi32(four[2], four[3])));
  }
}

// The fold 8, 4, 2, 1 of 16 partial sums, given after its first step.
inline float FoldAfter8(__m256 v) {
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}

// The same for four vectors at once.
inline __m128 FoldAfter8(const __m256 (&v)[4]) {
  __m128 by4[4];
  for (int i = 0; i < 4; ++i) by4[i] = _mm_add_ps(_mm256_castps256_ps128(v[i]), _mm256_extractf128_ps(v[i], 1));
  const __m128 a = _mm_add_ps(_mm_movelh_ps(by4[0], by4[1]), _mm_movehl_ps(by4[1], by4[0]));
  const __m128 b = _mm_add_ps(_mm_movelh_ps(by4[2], by4[3]), _mm_movehl_ps(by4[3], by4[2]));
  return _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd));
}

}  // namespace
}  // namespace tandem::engine
