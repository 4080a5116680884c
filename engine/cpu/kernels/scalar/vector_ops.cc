#include <cmath>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  float partial[16] = {};
  for (int64_t i = 0; i < n; ++i) partial[i % 16] = std::fma(x[i], x[i], partial[i % 16]);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) partial[i] += partial[i + half];
  }
  const float mean = partial[0] / static_cast<float>(n);
  const float inverse = 1.0f / std::sqrt(mean + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = (x[i] * inverse) * weight[i];
}

void RopePairs(float* x, int heads, int head_dim, int rope_dims, const float* cos, const float* sin) {
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int i = 0; i < rope_dims / 2; ++i) {
      const float even = x[2 * i];
      const float odd = x[2 * i + 1];
      x[2 * i] = std::fma(even, cos[i], -(odd * sin[i]));
      x[2 * i + 1] = std::fma(odd, cos[i], even * sin[i]);
    }
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + CanonicalExp(-gate[i])) * up[i];
}

void Add(const float* y, int64_t n, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void F32ToF16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = FloatToHalf(x[i]);
}

}  // namespace tandem::engine::scalar
