#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/quantize_constants.h"

namespace tandem::engine::avx2 {
namespace {

// Largest |x| of n (a multiple of 8) values, NaN left out.
inline float MaxAbs(const float* x, int n) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 max = _mm256_setzero_ps();
  for (int i = 0; i < n; i += 8) max = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)), max);
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m);
}

// 8 values to integers of -127..127. The operand order sends NaN to 127, as in the scalar kernel.
inline __m256i Quantize8(const float* x, __m256 inverse) {
  const __m256 limit = _mm256_set1_ps(127.0f);
  __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
  v = _mm256_min_ps(v, limit);
  v = _mm256_max_ps(v, _mm256_set1_ps(-127.0f));
  return _mm256_cvtps_epi32(v);  // rounds half to even
}

// 32 values to int8, and the sums of the two halves.
inline void Quantize32(const float* x, __m256 inverse, int8_t* q, int32_t* sum16) {
  const __m256i a = _mm256_packs_epi32(Quantize8(x, inverse), Quantize8(x + 8, inverse));
  const __m256i b = _mm256_packs_epi32(Quantize8(x + 16, inverse), Quantize8(x + 24, inverse));
  // The packs work within 128-bit lanes; one permutation of 4-byte units puts the values in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
  __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
  sums = _mm256_hadd_epi32(sums, sums);
  sums = _mm256_hadd_epi32(sums, sums);
  sum16[0] = _mm256_extract_epi32(sums, 0);
  sum16[1] = _mm256_extract_epi32(sums, 4);
}

template <int kBlock>
inline void QuantizeBlocks(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  for (int64_t b = 0; b < cols / kBlock; ++b) {
    const float max = MaxAbs(x + b * kBlock, kBlock);
    const bool zero = max < kQuantizeMinMax;
    scale[b] = zero ? 0.0f : max / 127.0f;
    const __m256 inverse = _mm256_set1_ps(zero ? 0.0f : 127.0f / max);
    for (int64_t i = b * kBlock; i < (b + 1) * kBlock; i += 32) Quantize32(x + i, inverse, q + i, sum16 + i / 16);
  }
}

// A block of the norm's values at a time goes through a buffer that never leaves the first level of cache.
template <int kBlock>
inline bool RmsNormQuantize(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                            int32_t* sum16) {
  const __m256 inverse = _mm256_set1_ps(InverseRms(x, n, eps));
  __m256 broken = _mm256_setzero_ps();
  for (int64_t first = 0; first < n; first += kBlock) {
    alignas(32) float normed[kBlock];
    for (int i = 0; i < kBlock; i += 8) {
      const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + first + i), inverse);
      const __m256 v = _mm256_mul_ps(scaled, _mm256_loadu_ps(weight + first + i));
      const __m256 zero = _mm256_sub_ps(v, v);  // NaN where v is infinite or NaN
      broken = _mm256_or_ps(broken, _mm256_cmp_ps(zero, zero, _CMP_UNORD_Q));
      _mm256_store_ps(normed + i, v);
    }
    QuantizeBlocks<kBlock>(normed, kBlock, q + first, scale + first / kBlock, sum16 + first / 16);
  }
  return _mm256_movemask_ps(broken) == 0;
}

}  // namespace

void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks<32>(x, cols, q, scale, sum16);
}

void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks<256>(x, cols, q, scale, sum16);
}

bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16) {
  return RmsNormQuantize<32>(x, weight, n, eps, q, scale, sum16);
}

bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16) {
  return RmsNormQuantize<256>(x, weight, n, eps, q, scale, sum16);
}

}  // namespace tandem::engine::avx2
