#include <cmath>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/kernels/activation_constants.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

float GeluTanh(float x) {
  if (x <= -kGeluRange) return 0.0f;
  if (x >= kGeluRange) return x;
  const float h = HalfToFloat(FloatToHalf(x));
  const float e = CanonicalExp(-(h * std::fma(h * h, kGeluCubic, kGeluLinear)));
  return HalfToFloat(FloatToHalf(h / (1.0f + e)));
}

}  // namespace

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const float inverse = InverseRms(x, n, eps);
  for (int64_t i = 0; i < n; ++i) out[i] = (x[i] * inverse) * weight[i];
}

void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  float sums[16] = {};
  for (int64_t i = 0; i < n; ++i) sums[i % 16] += x[i];
  const float mean = Fold16(sums) / static_cast<float>(n);
  float squares[16] = {};
  for (int64_t i = 0; i < n; ++i) {
    const float d = x[i] - mean;
    squares[i % 16] = std::fma(d, d, squares[i % 16]);
  }
  const float inverse = 1.0f / std::sqrt(Fold16(squares) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = ((x[i] - mean) * inverse) * weight[i];
    out[i] = bias != nullptr ? scaled + bias[i] : scaled;
  }
}

void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin) {
  for (int h = 0; h < heads; ++h, x += stride) {
    for (int i = 0; i < rope_dims / 2; ++i) {
      const float even = x[2 * i];
      const float odd = x[2 * i + 1];
      x[2 * i] = std::fma(even, cos[i], -(odd * sin[i]));
      x[2 * i + 1] = std::fma(odd, cos[i], even * sin[i]);
    }
  }
}

void RopeHalves(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin) {
  const int pairs = rope_dims / 2;
  for (int h = 0; h < heads; ++h, x += stride) {
    for (int i = 0; i < pairs; ++i) {
      const float first = x[i];
      const float second = x[i + pairs];
      x[i] = std::fma(first, cos[i], -(second * sin[i]));
      x[i + pairs] = std::fma(second, cos[i], first * sin[i]);
    }
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + CanonicalExp(-gate[i])) * up[i];
}

void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = GeluTanh(gate[i]) * (up != nullptr ? up[i] : 1.0f);
}

void GeluErfMul(const float* gate, const float* up, int64_t n, float* out) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  for (int64_t i = 0; i < n; ++i) {
    const double g = gate[i];
    const float gelu = static_cast<float>(0.5 * g * CanonicalErfc(-g * kSqrtHalf));
    out[i] = gelu * (up != nullptr ? up[i] : 1.0f);
  }
}

void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gate[i] < kClampedSwigluLimit ? gate[i] : kClampedSwigluLimit;
    const float below = up[i] < kClampedSwigluLimit ? up[i] : kClampedSwigluLimit;
    const float u = below > -kClampedSwigluLimit ? below : -kClampedSwigluLimit;
    out[i] = g / (1.0f + CanonicalExp(-(kClampedSwigluSlope * g))) * (u + 1.0f);
  }
}

void Add(const float* y, int64_t n, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void AddScaled(const float* y, float scale, int64_t n, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::fma(scale, y[i], x[i]);
}

void SoftCap(float* x, int64_t n, float cap) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap - 2.0f * cap / (1.0f + CanonicalExp(x[i] * (2.0f / cap)));
}

void F32ToF16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = FloatToHalf(x[i]);
}

}  // namespace tandem::engine::scalar
