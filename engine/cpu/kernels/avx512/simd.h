// Helpers of the AVX-512 kernels; rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/exp_constants.h"
#include "engine/cpu/kernels/x86_common.h"

namespace tandem::engine {
namespace {

inline __m512i Load512(const void* p) { return _mm512_loadu_si512(p); }

// 16 adjacent half floats.
inline __m512 LoadHalves(const void* p) { return _mm512_cvtph_ps(Load256(p)); }

// The first `count` of 16 lanes, 0 <= count <= 16.
inline __mmask16 LaneMask(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }

// Writes the results of one group and token, leaving out the padding rows of the last group.
inline void StoreGroup(const MatMulArgs& args, int64_t group, int row, __m512 acc) {
  const int64_t first = group * kRowGroup;
  const int64_t count = args.weights.rows - first;
  _mm512_mask_storeu_ps(args.out + row * args.out_stride + first, LaneMask(count < kRowGroup ? count : kRowGroup), acc);
}

// CanonicalExp on 16 lanes.
inline __m512 Exp(__m512 x) {
  const __m512 magic = _mm512_set1_ps(kExpMagic);
  const __m512 shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(kExpLog2E), magic);
  const __m512 n = _mm512_sub_ps(shifted, magic);
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-kExpLn2Hi), x);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(-kExpLn2Lo), r);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kExpP4), r, _mm512_set1_ps(kExpP3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpP0));
  const __m512 e = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  const __m512i raised = _mm512_add_epi32(_mm512_castps_si512(e), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
  const __mmask16 not_low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpLowest), _CMP_NLT_UQ);
  const __mmask16 too_high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpHighest), _CMP_NLE_UQ);
  const __m512 normal = _mm512_maskz_mov_ps(not_low, _mm512_castsi512_ps(raised));
  return _mm512_mask_mov_ps(normal, too_high, _mm512_set1_ps(__builtin_inff()));
}

// The fold 8, 4, 2, 1 of 16 partial sums: its first step.
inline __m256 FoldBy8(__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

// What rms_norm multiplies by: 1 / sqrt(mean(x^2) + eps).
inline float InverseRms(const float* x, int64_t n, float eps) {
  __m512 partial = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    // The partials are never -0, so adding the square of a masked-out zero leaves them.
    const __m512 v = _mm512_maskz_loadu_ps(LaneMask(n - i < 16 ? n - i : 16), x + i);
    partial = _mm512_fmadd_ps(v, v, partial);
  }
  const float mean = FoldAfter8(FoldBy8(partial)) / static_cast<float>(n);
  return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
}

}  // namespace
}  // namespace tandem::engine
