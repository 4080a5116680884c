// Helpers of the NEON kernels; rules as in kernels/vector_common.h. A "quad" is four rows of a group: one vector.
#pragma once

#include <arm_neon.h>

#include "engine/cpu/kernels/exp_constants.h"
#include "engine/cpu/kernels/vector_common.h"

namespace tandem::engine {
namespace {

constexpr int kQuads = kRowGroup / 4;

// One float for each row of a group.
struct Float16Rows {
  float32x4_t quad[kQuads];
};

inline Float16Rows ZeroRows() {
  const float32x4_t zero = vdupq_n_f32(0.0f);
  return {{zero, zero, zero, zero}};
}

// Four adjacent half floats.
inline float32x4_t LoadHalves(const void* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t*>(p))));
}

// Four adjacent floats, those from `left` on as zero.
inline float32x4_t LoadTail(const float* p, int64_t left) {
  if (left >= 4) return vld1q_f32(p);
  float four[4] = {};
  for (int64_t i = 0; i < left; ++i) four[i] = p[i];
  return vld1q_f32(four);
}

// Writes the first `left` of four floats, or all of them.
inline void StoreTail(float* p, int64_t left, float32x4_t v) {
  if (left >= 4) return vst1q_f32(p, v);
  float four[4];
  vst1q_f32(four, v);
  for (int64_t i = 0; i < left; ++i) p[i] = four[i];
}

// Writes the results of one group and token, leaving out the padding rows of the last group.
inline void StoreGroup(const MatMulArgs& args, int64_t group, int row, const Float16Rows& acc) {
  const int64_t first = group * kRowGroup;
  float* out = args.out + row * args.out_stride + first;
  for (int q = 0; q < kQuads; ++q) StoreTail(out + 4 * q, args.weights.rows - first - 4 * q, acc.quad[q]);
}

// Reads them back.
inline Float16Rows LoadGroup(const MatMulArgs& args, int64_t group, int row) {
  const int64_t first = group * kRowGroup;
  const float* out = args.out + row * args.out_stride + first;
  Float16Rows acc;
  for (int q = 0; q < kQuads; ++q) acc.quad[q] = LoadTail(out + 4 * q, args.weights.rows - first - 4 * q);
  return acc;
}

// CanonicalExp on 4 lanes.
inline float32x4_t Exp(float32x4_t x) {
  const float32x4_t magic = vdupq_n_f32(kExpMagic);
  const float32x4_t shifted = vfmaq_f32(magic, x, vdupq_n_f32(kExpLog2E));
  const float32x4_t n = vsubq_f32(shifted, magic);
  float32x4_t r = vfmaq_f32(x, n, vdupq_n_f32(-kExpLn2Hi));
  r = vfmaq_f32(r, n, vdupq_n_f32(-kExpLn2Lo));
  float32x4_t p = vfmaq_f32(vdupq_n_f32(kExpP3), vdupq_n_f32(kExpP4), r);
  p = vfmaq_f32(vdupq_n_f32(kExpP2), p, r);
  p = vfmaq_f32(vdupq_n_f32(kExpP1), p, r);
  p = vfmaq_f32(vdupq_n_f32(kExpP0), p, r);
  const float32x4_t e = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
  const uint32x4_t raised = vaddq_u32(vreinterpretq_u32_f32(e), vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23));
  const uint32x4_t too_low = vcltq_f32(x, vdupq_n_f32(kExpLowest));
  const uint32x4_t not_high = vcleq_f32(x, vdupq_n_f32(kExpHighest));  // false for NaN
  const float32x4_t normal = vreinterpretq_f32_u32(vbicq_u32(raised, too_low));
  return vbslq_f32(not_high, normal, vdupq_n_f32(__builtin_inff()));
}

// cap * tanh(s / cap).
inline float32x4_t Capped(float32x4_t s, float cap) {
  const float32x4_t e = Exp(vmulq_n_f32(s, 2.0f / cap));
  const float32x4_t below = vdivq_f32(vdupq_n_f32(2.0f * cap), vaddq_f32(vdupq_n_f32(1.0f), e));
  return vsubq_f32(vdupq_n_f32(cap), below);
}

// The fold 8, 4, 2, 1 of 16 partial sums.
inline float Fold16(const float32x4_t (&p)[4]) {
  const float32x4_t by4 = vaddq_f32(vaddq_f32(p[0], p[2]), vaddq_f32(p[1], p[3]));
  const float32x2_t by2 = vadd_f32(vget_low_f32(by4), vget_high_f32(by4));
  return vget_lane_f32(by2, 0) + vget_lane_f32(by2, 1);
}

// Sixteen strided partial sums: calls add(i, &partial[j]) for each four elements at i that partial[j] takes.
template <typename Add>
inline float SumStrided(int64_t n, Add add) {
  float32x4_t partial[4] = {};
  for (int64_t i = 0; i < n; i += 16) {
    for (int j = 0; j < 4 && i + 4 * j < n; ++j) add(i + 4 * j, partial[j]);
  }
  return Fold16(partial);
}

// 1 / sqrt(x), without the call that the C library's root brings for the sake of errno.
inline float InverseRoot(float x) { return 1.0f / vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

// What rms_norm multiplies by: 1 / sqrt(mean(x^2) + eps). Partials are never -0, so adding the zeros behind a tail
// leaves them.
inline float InverseRms(const float* x, int64_t n, float eps) {
  const float squares = SumStrided(n, [&](int64_t i, float32x4_t& partial) {
    const float32x4_t v = LoadTail(x + i, n - i);
    partial = vfmaq_f32(partial, v, v);
  });
  return InverseRoot(squares / static_cast<float>(n) + eps);
}

}  // namespace
}  // namespace tandem::engine
