#include "engine/cpu/kernels/activation_constants.h"
#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// silu(g) * u = g / (1 + exp(-g)) * u.
inline __m256 SiluMul8(__m256 g, __m256 u) {
  const __m256 e = Exp(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));
  return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), u);
}

// 8 adjacent floats, those from `left` on as zero.
inline __m256 LoadTail(const float* p, int64_t left) {
  return left >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, LaneMask(left < 0 ? 0 : left));
}

inline __m256 RoundToHalf(__m256 v) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

struct GeluTanh {
  static __m256 Run(__m256 g, __m256 u) {
    const __m256 h = RoundToHalf(g);
    const __m256 inner = _mm256_fmadd_ps(_mm256_mul_ps(h, h), _mm256_set1_ps(kGeluCubic), _mm256_set1_ps(kGeluLinear));
    const __m256 e = Exp(_mm256_xor_ps(_mm256_mul_ps(h, inner), _mm256_set1_ps(-0.0f)));
    __m256 gelu = RoundToHalf(_mm256_div_ps(h, _mm256_add_ps(_mm256_set1_ps(1.0f), e)));
    gelu = _mm256_blendv_ps(gelu, g, _mm256_cmp_ps(g, _mm256_set1_ps(kGeluRange), _CMP_GE_OQ));
    gelu = _mm256_andnot_ps(_mm256_cmp_ps(g, _mm256_set1_ps(-kGeluRange), _CMP_LE_OQ), gelu);
    return _mm256_mul_ps(gelu, u);
  }
};

struct Clamped {
  static __m256 Run(__m256 gate, __m256 up) {
    const __m256 limit = _mm256_set1_ps(kClampedSwigluLimit);
    const __m256 g = _mm256_min_ps(gate, limit);
    const __m256 u = _mm256_max_ps(_mm256_min_ps(up, limit), _mm256_set1_ps(-kClampedSwigluLimit));
    const __m256 slope = _mm256_mul_ps(_mm256_set1_ps(kClampedSwigluSlope), g);
    const __m256 e = Exp(_mm256_xor_ps(slope, _mm256_set1_ps(-0.0f)));
    const __m256 one = _mm256_set1_ps(1.0f);
    return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(one, e)), _mm256_add_ps(u, one));
  }
};

// out = Function(gate, up) for all n; without `up`, ones.
template <typename Function>
inline void Activate(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256 u = up != nullptr ? LoadTail(up + i, n - i) : _mm256_set1_ps(1.0f);
    const __m256 result = Function::Run(LoadTail(gate + i, n - i), u);
    if (n - i >= 8) {
      _mm256_storeu_ps(out + i, result);
    } else {
      _mm256_maskstore_ps(out + i, LaneMask(n - i), result);
    }
  }
}

// A 0 in every lane from `left` on.
inline __m256 KeepLanes(__m256 v, int64_t left) {
  return left >= 8 ? v : _mm256_and_ps(v, _mm256_castsi256_ps(LaneMask(left < 0 ? 0 : left)));
}

}  // namespace

void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  // Partials are never -0, so a masked-out zero leaves them.
  __m256 sum0 = _mm256_setzero_ps(), sum1 = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    sum0 = _mm256_add_ps(sum0, LoadTail(x + i, n - i));
    if (n - i > 8) sum1 = _mm256_add_ps(sum1, LoadTail(x + i + 8, n - i - 8));
  }
  const float mean = FoldAfter8(_mm256_add_ps(sum0, sum1)) / static_cast<float>(n);
  const __m256 mean8 = _mm256_set1_ps(mean);
  __m256 square0 = _mm256_setzero_ps(), square1 = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __m256 a = KeepLanes(_mm256_sub_ps(LoadTail(x + i, n - i), mean8), n - i);
    square0 = _mm256_fmadd_ps(a, a, square0);
    if (n - i <= 8) continue;
    const __m256 b = KeepLanes(_mm256_sub_ps(LoadTail(x + i + 8, n - i - 8), mean8), n - i - 8);
    square1 = _mm256_fmadd_ps(b, b, square1);
  }
  const float variance = FoldAfter8(_mm256_add_ps(square0, square1)) / static_cast<float>(n);
  const float inverse = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + eps)));
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = ((x[i] - mean) * inverse) * weight[i];
    out[i] = bias != nullptr ? scaled + bias[i] : scaled;
  }
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const float inverse = InverseRms(x, n, eps);
  const __m256 inverse8 = _mm256_set1_ps(inverse);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), inverse8);
    _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(weight + i)));
  }
  for (; i < n; ++i) out[i] = (x[i] * inverse) * weight[i];
}

void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin) {
  const int pairs = rope_dims / 2;
  for (int h = 0; h < heads; ++h, x += stride) {
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

void RopeHalves(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin) {
  const int pairs = rope_dims / 2;
  for (int h = 0; h < heads; ++h, x += stride) {
    int i = 0;
    for (; i + 8 <= pairs; i += 8) {
      const __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
      const __m256 first = _mm256_loadu_ps(x + i), second = _mm256_loadu_ps(x + i + pairs);
      _mm256_storeu_ps(x + i, _mm256_fmsub_ps(first, c, _mm256_mul_ps(second, s)));
      _mm256_storeu_ps(x + i + pairs, _mm256_fmadd_ps(second, c, _mm256_mul_ps(first, s)));
    }
    for (; i < pairs; ++i) {
      const float first = x[i];
      const float second = x[i + pairs];
      x[i] = __builtin_fmaf(first, cos[i], -(second * sin[i]));
      x[i + pairs] = __builtin_fmaf(second, cos[i], first * sin[i]);
    }
  }
}

void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) { Activate<GeluTanh>(gate, up, n, out); }

void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out) { Activate<Clamped>(gate, up, n, out); }

void AddScaled(const float* y, float scale, int64_t n, float* x) {
  const __m256 scale8 = _mm256_set1_ps(scale);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(x + i, _mm256_fmadd_ps(scale8, _mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
  }
  for (; i < n; ++i) x[i] = __builtin_fmaf(scale, y[i], x[i]);
}

void SoftCap(float* x, int64_t n, float cap) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256 capped = Capped(LoadTail(x + i, n - i), cap);
    if (n - i >= 8) {
      _mm256_storeu_ps(x + i, capped);
    } else {
      _mm256_maskstore_ps(x + i, LaneMask(n - i), capped);
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
