#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// silu(g) * u = g / (1 + exp(-g)) * u.
inline __m256 SiluMul8(__m256 g, __m256 u) {
  const __m256 e = Exp(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));
  return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), u);
}

}  // namespace

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
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
  const float inverse = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
  const __m256 inverse8 = _mm256_set1_ps(inverse);
  for (i = 0; i + 8 <= n; i += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), inverse8);
    _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(weight + i)));
  }
  for (; i < n; ++i) out[i] = (x[i] * inverse) * weight[i];
}

void RopePairs(float* x, int heads, int head_dim, int rope_dims, const float* cos, const float* sin) {
  const int pairs = rope_dims / 2;
  for (int h = 0; h < heads; ++h, x += head_dim) {
    int i = 0;
    for (; i + 4 <= pairs; i += 4) {
      const __m128 c = _mm_loadu_ps(cos + i);
      const __m128 s = _mm_loadu_ps(sin + i);
      const __m256 c2 = _mm256_set_m128(_mm_unpackhi_ps(c, c), _mm_unpacklo_ps(c, c));
      const __m256 s2 = _mm256_set_m128(_mm_unpackhi_ps(s, s), _mm_unpacklo_ps(s, s));
      const __m256 v = _mm256_loadu_ps(x + 2 * i);
      const __m256 swapped = _mm256_permute_ps(v, 0xb1);
      _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(v, c2, _mm256_mul_ps(swapped, s2)));
    }
    for (; i < pairs; ++i) {
      const float even = x[2 * i];
      const float odd = x[2 * i + 1];
      x[2 * i] = __builtin_fmaf(even, cos[i], -(odd * sin[i]));
      x[2 * i + 1] = __builtin_fmaf(odd, cos[i], even * sin[i]);
    }
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, SiluMul8(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  }
  if (i < n) {
    const __m256i mask = LaneMask(n - i);
    _mm256_maskstore_ps(out + i, mask, SiluMul8(_mm256_maskload_ps(gate + i, mask), _mm256_maskload_ps(up + i, mask)));
  }
}

void F32ToF16(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), halves);
  }
  for (; i < n; ++i) out[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

}  // namespace tandem::engine::avx2
