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
  static Floats LoadBF16(const std::byte* p) {
    return Each([&](int q) {
      const uint16x4_t upper = vld1_u16(reinterpret_cast<const uint16_t*>(p + 8 * q));
      return vreinterpretq_f32_u32(vshll_n_u16(upper, 16));
    });
  }
  static Floats LoadInt8(const std::byte* p) { return FromInt8(vld1q_s8(reinterpret_cast<const int8_t*>(p))); }
  static Floats LoadNibbles(const std::byte* p, int upper) { return FromInt8(Nibbles(p, upper)); }
  static Floats FromInt8(int8x16_t bytes) {
    const int16x8_t halves[2] = {vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))};
    return Each([&](int q) {
      const int16x4_t four = q % 2 == 0 ? vget_low_s16(halves[q / 2]) : vget_high_s16(halves[q / 2]);
      return vcvtq_f32_s32(vmovl_s16(four));
    });
  }
  template <int kBits>
  static Floats PartOfWords(const std::byte* p, int first_bit) {
    const int32x4_t shift = vdupq_n_s32(32 - kBits - first_bit);
    return Each([&](int q) {
      const int32x4_t words = vreinterpretq_s32_s8(vld1q_s8(reinterpret_cast<const int8_t*>(p + 16 * q)));
      return vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(words, shift), 32 - kBits));
    });
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

  struct Unit {
    int8x16_t quad[kQuads];
  };
  struct Sums {
    int32x4_t quad[kQuads];
  };
  static Unit LoadUnit(const std::byte* p) {
    const int8_t* first = reinterpret_cast<const int8_t*>(p);
    return {{vld1q_s8(first), vld1q_s8(first + 16), vld1q_s8(first + 32), vld1q_s8(first + 48)}};
  }
  static Unit LoadNibbleUnit(const std::byte* p, int upper) {
    return {{Nibbles(p, upper), Nibbles(p + 16, upper), Nibbles(p + 32, upper), Nibbles(p + 48, upper)}};
  }
  static Sums DotStart(int32_t) {
    const int32x4_t zero = vdupq_n_s32(0);
    return {{zero, zero, zero, zero}};
  }
  static Sums Dot(Sums sum, Unit keys, int32_t word) {
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(word));
    for (int q = 0; q < kQuads; ++q) sum.quad[q] = vdotq_s32(sum.quad[q], keys.quad[q], four);
    return sum;
  }
  static Floats DotEnd(Sums sum) {
    return Each([&](int q) { return vcvtq_f32_s32(sum.quad[q]); });
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
  static int8x16_t Nibbles(const std::byte* p, int upper) {
    const int8x16_t bytes = vld1q_s8(reinterpret_cast<const int8_t*>(p));
    return vandq_s8(vshlq_s8(bytes, vdupq_n_s8(static_cast<int8_t>(4 - 4 * upper))), vdupq_n_s8(-16));
  }
  template <typename Op>
  static Floats Each(Op op) {
    return {{op(0), op(1), op(2), op(3)}};
  }
};

}  // namespace

void Attention(const AttentionArgs& args) { AttentionOf<Lanes>(args); }

}  // namespace tandem::engine::neon
