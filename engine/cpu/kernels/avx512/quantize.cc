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

}  // namespace

void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks<32>(x, cols, q, scale, sum16);
}

void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks<256>(x, cols, q, scale, sum16);
}

}  // namespace tandem::engine::avx512
