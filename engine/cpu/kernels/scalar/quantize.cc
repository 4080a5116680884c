#include <cmath>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/quantize_constants.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"

namespace tandem::engine::scalar {
namespace {

// Rounds half to even; |value| <= 127.
int8_t RoundToInt8(float value) { return static_cast<int8_t>((value + 12582912.0f) - 12582912.0f); }

void QuantizeBlocks(const float* x, int64_t cols, int block, int8_t* q, float* scale, int32_t* sum16) {
  for (int64_t b = 0; b < cols / block; ++b) {
    const float* xb = x + b * block;
    float max = 0.0f;
    for (int i = 0; i < block; ++i) max = std::fabs(xb[i]) > max ? std::fabs(xb[i]) : max;
    const bool zero = max < kQuantizeMinMax;
    scale[b] = zero ? 0.0f : max / 127.0f;
    const float inverse = zero ? 0.0f : 127.0f / max;
    for (int i = 0; i < block; ++i) {
      // The order of the comparisons sends NaN to 127, as the vector instructions do.
      float value = xb[i] * inverse;
      value = value < 127.0f ? value : 127.0f;
      value = value > -127.0f ? value : -127.0f;
      q[b * block + i] = RoundToInt8(value);
    }
  }
  for (int64_t s = 0; s < cols / 16; ++s) {
    sum16[s] = 0;
    for (int i = 0; i < 16; ++i) sum16[s] += q[16 * s + i];
  }
}

bool RmsNormQuantize(int block, const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                     int32_t* sum16) {
  const float inverse = InverseRms(x, n, eps);
  bool whole = true;
  for (int64_t first = 0; first < n; first += block) {
    float normed[256];
    for (int i = 0; i < block; ++i) {
      normed[i] = (x[first + i] * inverse) * weight[first + i];
      whole = whole && std::isfinite(normed[i]);
    }
    QuantizeBlocks(normed, block, block, q + first, scale + first / block, sum16 + first / 16);
  }
  return whole;
}

}  // namespace

void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks(x, cols, 32, q, scale, sum16);
}

void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  QuantizeBlocks(x, cols, 256, q, scale, sum16);
}

bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16) {
  return RmsNormQuantize(32, x, weight, n, eps, q, scale, sum16);
}

bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16) {
  return RmsNormQuantize(256, x, weight, n, eps, q, scale, sum16);
}

}  // namespace tandem::engine::scalar
