#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/quantize_constants.h"

namespace tandem::engine::avx512 {
namespace {

// Largest |x| of n (a multiple of 16) values, NaN left out.
inline float MaxAbs(const float* x, int n) {
  __m512 max = _mm512_setzero_ps();
  for (int i = 0; i < n; i += 16) max = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i)), max);
  return _mm512_reduce_max_ps(max);
}

// 16 values to int8, and their sum. The operand order sends NaN to 127, as in the scalar kernel.
inline void Quantize16(const float* x, __m512 inverse, int8_t* q, int32_t* sum16) {
  __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), inverse);
  v = _mm512_min_ps(v, _mm512_set1_ps(127.0f));
  v = _mm512_max_ps(v, _mm512_set1_ps(-127.0f));
  const __m512i rounded = _mm512_cvtps_epi32(v);  // half to even
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(rounded));
  *sum16 = _mm512_reduce_add_epi32(rounded);
}

template <int kBlock>
inline void QuantizeBlocks(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  for (int64_t b = 0; b < cols / kBlock; ++b) {
    const float max = MaxAbs(x + b * kBlock, kBlock);
    const bool zero = max < kQuantizeMinMax;
    scale[b] = zero ? 0.0f : max / 127.0f;
    const __m512 inverse = _mm512_set1_ps(zero ? 0.0f : 127.0f / max);
    for (int64_t i = b * kBlock; i < (b + 1) * kBlock; i += 16) Quantize16(x + i, inverse, q + i, sum16 + i / 16);
  }
}

constexpr int kInfinityOrNan = 0x99;  // quiet NaN, both infinities, signalling NaN

// A block of the norm's values at a time goes through a buffer that never leaves the first level of cache.
template <int kBlock>
inline bool RmsNormQuantize(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                            int32_t* sum16) {
  const __m512 inverse = _mm512_set1_ps(InverseRms(x, n, eps));
  __mmask16 broken = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    alignas(64) float normed[kBlock];
    for (int i = 0; i < kBlock; i += 16) {
      const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + first + i), inverse);
      const __m512 v = _mm512_mul_ps(scaled, _mm512_loadu_ps(weight + first + i));
      broken |= _mm512_fpclass_ps_mask(v, kInfinityOrNan);
      _mm512_store_ps(normed + i, v);
    }
    QuantizeBlocks<kBlock>(normed, kBlock, q + first, scale + first / kBlock, sum16 + first / 16);
  }
  return broken == 0;
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

}  // namespace tandem::engine::avx512
