#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const __m512 inverse = _mm512_set1_ps(InverseRms(x, n, eps));
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = LaneMask(n - i < 16 ? n - i : 16);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
    _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(mask, weight + i)));
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = LaneMask(n - i < 16 ? n - i : 16);
    const __m512 g = _mm512_maskz_loadu_ps(mask, gate + i);
    const __m512 e = Exp(_mm512_xor_ps(g, _mm512_set1_ps(-0.0f)));
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
    _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
  }
}

}  // namespace tandem::engine::avx512
