#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/simd.h"
#include "engine/cpu/kernels/quantize_constants.h"

namespace tandem::engine::neon {
namespace {

// Largest |x| of n (a multiple of 4) values, NaN left out.
inline float MaxAbs(const float* x, int n) {
  float32x4_t max = vdupq_n_f32(0.0f);
  for (int i = 0; i < n; i += 4) {
    const float32x4_t v = vabsq_f32(vld1q_f32(x + i));
    max = vbslq_f32(vcgtq_f32(v, max), v, max);
  }
  return vmaxvq_f32(max);
}

// 8 values to integers of -127..127. The comparisons send NaN to 127, as in the scalar kernel.
inline int16x8_t Quantize8(const float* x, float inverse) {
  const float32x4_t limit = vdupq_n_f32(127.0f), lowest = vdupq_n_f32(-127.0f);
  int16x4_t half[2];
  for (int h = 0; h < 2; ++h) {
    float32x4_t v = vmulq_n_f32(vld1q_f32(x + 4 * h), inverse);
    v = vbslq_f32(vcltq_f32(v, limit), v, limit);
    v = vbslq_f32(vcgtq_f32(v, lowest), v, lowest);
    half[h] = vmovn_s32(vcvtnq_s32_f32(v));  // rounds half to even
  }
  return vcombine_s16(half[0], half[1]);
}

template <int kBlock>
inline void QuantizeBlocks(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16) {
  for (int64_t b = 0; b < cols / kBlock; ++b) {
    const float max = MaxAbs(x + b * kBlock, kBlock);
    const bool zero = max < kQuantizeMinMax;
    scale[b] = zero ? 0.0f : max / 127.0f;
    const float inverse = zero ? 0.0f : 127.0f / max;
    for (int64_t i = b * kBlock; i < (b + 1) * kBlock; i += 16) {
      const int16x8_t low = Quantize8(x + i, inverse), high = Quantize8(x + i + 8, inverse);
      vst1q_s8(q + i, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
      sum16[i / 16] = vaddvq_s16(vaddq_s16(low, high));
    }
  }
}

// A block of the norm's values at a time goes through a buffer that never leaves the first level of cache.
template <int kBlock>
inline bool RmsNormQuantize(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                            int32_t* sum16) {
  const float inverse = InverseRms(x, n, eps);
  uint32x4_t whole = vdupq_n_u32(~0u);
  for (int64_t first = 0; first < n; first += kBlock) {
    float normed[kBlock];
    for (int i = 0; i < kBlock; i += 4) {
      const float32x4_t v = vmulq_f32(vmulq_n_f32(vld1q_f32(x + first + i), inverse), vld1q_f32(weight + first + i));
      const float32x4_t zero = vsubq_f32(v, v);  // NaN where v is infinite or NaN
      whole = vandq_u32(whole, vceqq_f32(zero, zero));
      vst1q_f32(normed + i, v);
    }
    QuantizeBlocks<kBlock>(normed, kBlock, q + first, scale + first / kBlock, sum16 + first / 16);
  }
  return vminvq_u32(whole) != 0;
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

}  // namespace tandem::engine::neon
