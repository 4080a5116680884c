#include "engine/cpu/kernels/attention_walk.h"

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/simd.h"

namespace tandem::engine::neon {
namespace {

// 16 lanes for AttentionWalk.
struct Lanes {
  using Floats = Float16Rows;
  static constexpr int kChains = 4, kQueries = 4;

  static Floats Zero() { return ZeroRows(); }
  static Floats Set1(float x) {
    return Each([&](int) { return vdupq_n_f32(x); });
  }
  static Floats Load(const float* p) {
    return Each([&](int q) { return vld1q_f32(p + 4 * q); });
  }
  static Floats LoadF16(const std::byte* p) {
    return Each([&](int q) { return LoadHalves(p + 8 * q); });
  }
  static void Store(float* p, Floats x) {
    for (int q = 0; q < kQuads; ++q) vst1q_f32(p + 4 * q, x.quad[q]);
  }
  static Floats Add(Floats a, Floats b) {
    return Each([&](int q) { return vaddq_f32(a.quad[q], b.quad[q]); });
  }
  static Floats Sub(Floats a, Floats b) {
    return Each([&](int q) { return vsubq_f32(a.quad[q], b.quad[q]); });
  }
  static Floats Mul(Floats a, Floats b) {
    return Each([&](int q) { return vmulq_f32(a.quad[q], b.quad[q]); });
  }
  static Floats Fma(Floats a, Floats b, Floats c) {
    return Each([&](int q) { return vfmaq_f32(c.quad[q], a.quad[q], b.quad[q]); });
  }
  static Floats Max(Floats a, Floats b) {
    return Each([&](int q) { return vbslq_f32(vcgtq_f32(a.quad[q], b.quad[q]), a.quad[q], b.quad[q]); });
  }
  static float MaxOf(Floats x) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.quad[0], x.quad[1]), vmaxq_f32(x.quad[2], x.quad[3])));
  }
  static float First(Floats x) { return vgetq_lane_f32(x.quad[0], 0); }
  static float Fold(Floats x) { return Fold16(x.quad); }
  static Floats Exp(Floats x) {
    return Each([&](int q) { return engine::Exp(x.quad[q]); });
  }
  static Floats Capped(Floats s, float cap) {
    return Each([&](int q) { return engine::Capped(s.quad[q], cap); });
  }

  static Floats Visible(Floats s, int first, int end) {
    static constexpr int32_t kLanes[4] = {0, 1, 2, 3};
    return Each([&](int q) {
      const int32x4_t lanes = vaddq_s32(vld1q_s32(kLanes), vdupq_n_s32(4 * q));
      const uint32x4_t visible = vandq_u32(vcgeq_s32(lanes, vdupq_n_s32(first)), vcltq_s32(lanes, vdupq_n_s32(end)));
      return vbslq_f32(visible, s.quad[q], vdupq_n_f32(-__builtin_inff()));
    });
  }

  // By tiles of 4 x 4: pairs of rows, then pairs of pairs.
  static void Transpose(Floats (&x)[16]) {
    Floats out[16];
    for (int i = 0; i < 16; i += 4) {
      for (int q = 0; q < kQuads; ++q) {
        const float32x4x2_t a = vtrnq_f32(x[i].quad[q], x[i + 1].quad[q]);
        const float32x4x2_t b = vtrnq_f32(x[i + 2].quad[q], x[i + 3].quad[q]);
        for (int odd = 0; odd < 2; ++odd) {
          const float64x2_t low = vreinterpretq_f64_f32(a.val[odd]), high = vreinterpretq_f64_f32(b.val[odd]);
          out[4 * q + odd].quad[i / 4] = vreinterpretq_f32_f64(vtrn1q_f64(low, high));
          out[4 * q + 2 + odd].quad[i / 4] = vreinterpretq_f32_f64(vtrn2q_f64(low, high));
        }
      }
    }
    for (int i = 0; i < 16; ++i) x[i] = out[i];
  }

 private:
  template <typename Op>
  static Floats Each(Op op) {
    return {{op(0), op(1), op(2), op(3)}};
  }
};

}  // namespace

void Attention(const AttentionArgs& args) { AttentionOf<Lanes>(args); }

}  // namespace tandem::engine::neon
