// Helpers of the AVX2 kernels; rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/exp_constants.h"
#include "engine/cpu/kernels/x86_common.h"

namespace tandem::engine {
namespace {

// Fixes the place of an accumulator's update in the instruction order. Left free, GCC computes all products of an
// unrolled loop first and keeps them on the stack. No instruction of its own.
inline void KeepOrder(__m256i& accumulator) { __asm__("" : "+x"(accumulator)); }

// One float for each row of a group: rows 0..7 and 8..15.
struct Float16Rows {
  __m256 half[2];
};

inline Float16Rows ZeroRows() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }

// 16 adjacent half floats.
inline Float16Rows LoadHalves(const void* p) {
  const char* bytes = static_cast<const char*>(p);
  return {{_mm256_cvtph_ps(Load128(bytes)), _mm256_cvtph_ps(Load128(bytes + 16))}};
}

// All bits set in the first `count` of 8 lanes, 0 <= count <= 8.
inline __m256i LaneMask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lanes);
}

// Writes the results of one group and token, leaving out the padding rows of the last group.
inline void StoreGroup(const MatMulArgs& args, int64_t group, int row, const Float16Rows& acc) {
  const int64_t first = group * kRowGroup;
  const int64_t count = args.weights.rows - first;
  float* out = args.out + row * args.out_stride + first;
  if (count >= kRowGroup) {
    _mm256_storeu_ps(out, acc.half[0]);
    _mm256_storeu_ps(out + 8, acc.half[1]);
    return;
  }
  _mm256_maskstore_ps(out, LaneMask(count < 8 ? count : 8), acc.half[0]);
  if (count > 8) _mm256_maskstore_ps(out + 8, LaneMask(count - 8), acc.half[1]);
}

// CanonicalExp on 8 lanes.
inline __m256 Exp(__m256 x) {
  const __m256 magic = _mm256_set1_ps(kExpMagic);
  const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(kExpLog2E), magic);
  const __m256 n = _mm256_sub_ps(shifted, magic);
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kExpLn2Hi), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kExpLn2Lo), r);
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(kExpP4), r, _mm256_set1_ps(kExpP3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpP0));
  const __m256 e = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i raised = _mm256_add_epi32(_mm256_castps_si256(e), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  const __m256 too_low = _mm256_cmp_ps(x, _mm256_set1_ps(kExpLowest), _CMP_LT_OQ);
  const __m256 too_high = _mm256_cmp_ps(x, _mm256_set1_ps(kExpHighest), _CMP_NLE_UQ);
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  return _mm256_andnot_ps(too_low, _mm256_blendv_ps(_mm256_castsi256_ps(raised), infinity, too_high));
}

// cap * tanh(s / cap).
inline __m256 Capped(__m256 s, float cap) {
  const __m256 e = Exp(_mm256_mul_ps(s, _mm256_set1_ps(2.0f / cap)));
  const __m256 below = _mm256_div_ps(_mm256_set1_ps(2.0f * cap), _mm256_add_ps(_mm256_set1_ps(1.0f), e));
  return _mm256_sub_ps(_mm256_set1_ps(cap), below);
}

// What rms_norm multiplies by: 1 / sqrt(mean(x^2) + eps).
inline float InverseRms(const float* x, int64_t n, float eps) {
  __m256 sum0 = _mm256_setzero_ps();  // partials 0..7
  __m256 sum1 = _mm256_setzero_ps();  // partials 8..15
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256 a = _mm256_loadu_ps(x + i);
    const __m256 b = _mm256_loadu_ps(x + i + 8);
    sum0 = _mm256_fmadd_ps(a, a, sum0);
    sum1 = _mm256_fmadd_ps(b, b, sum1);
  }
  // The partials are never -0, so adding the square of a masked-out zero leaves them.
  if (i < n) {
    const __m256 a = _mm256_maskload_ps(x + i, LaneMask(n - i));
    sum0 = _mm256_fmadd_ps(a, a, sum0);
    if (n - i > 8) {
      const __m256 b = _mm256_maskload_ps(x + i + 8, LaneMask(n - i - 8));
      sum1 = _mm256_fmadd_ps(b, b, sum1);
    }
  }
  const float mean = FoldAfter8(_mm256_add_ps(sum0, sum1)) / static_cast<float>(n);
  return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
}

}  // namespace
}  // namespace tandem::engine
