#include "engine/cpu/kernels/activation_constants.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/simd.h"

namespace tandem::engine::neon {
namespace {

inline float32x4_t One() { return vdupq_n_f32(1.0f); }

inline float32x4_t RoundToHalf(float32x4_t v) { return vcvt_f32_f16(vcvt_f16_f32(v)); }

// The operand order of the scalar kernels: a limit replaces NaN.
inline float32x4_t AtMost(float32x4_t v, float limit) {
  const float32x4_t most = vdupq_n_f32(limit);
  return vbslq_f32(vcltq_f32(v, most), v, most);
}
inline float32x4_t AtLeast(float32x4_t v, float limit) {
  const float32x4_t least = vdupq_n_f32(limit);
  return vbslq_f32(vcgtq_f32(v, least), v, least);
}

// The activations of kernel_table.h on four lanes.
struct Silu {
  static float32x4_t Run(float32x4_t g, float32x4_t u) {
    return vmulq_f32(vdivq_f32(g, vaddq_f32(One(), Exp(vnegq_f32(g)))), u);
  }
};

struct GeluTanh {
  static float32x4_t Run(float32x4_t g, float32x4_t u) {
    const float32x4_t h = RoundToHalf(g);
    const float32x4_t inner = vfmaq_f32(vdupq_n_f32(kGeluLinear), vmulq_f32(h, h), vdupq_n_f32(kGeluCubic));
    const float32x4_t e = Exp(vnegq_f32(vmulq_f32(h, inner)));
    float32x4_t gelu = RoundToHalf(vdivq_f32(h, vaddq_f32(One(), e)));
    gelu = vbslq_f32(vcgeq_f32(g, vdupq_n_f32(kGeluRange)), g, gelu);
    gelu = vbslq_f32(vcleq_f32(g, vdupq_n_f32(-kGeluRange)), vdupq_n_f32(0.0f), gelu);
    return vmulq_f32(gelu, u);
  }
};

struct Clamped {
  static float32x4_t Run(float32x4_t gate, float32x4_t up) {
    const float32x4_t g = AtMost(gate, kClampedSwigluLimit);
    const float32x4_t u = AtLeast(AtMost(up, kClampedSwigluLimit), -kClampedSwigluLimit);
    const float32x4_t e = Exp(vnegq_f32(vmulq_n_f32(g, kClampedSwigluSlope)));
    return vmulq_f32(vdivq_f32(g, vaddq_f32(One(), e)), vaddq_f32(u, One()));
  }
};

// out = Function(gate, up) for all n; without `up`, ones.
template <typename Function>
inline void Activate(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 4) {
    const float32x4_t u = up != nullptr ? LoadTail(up + i, n - i) : One();
    StoreTail(out + i, n - i, Function::Run(LoadTail(gate + i, n - i), u));
  }
}

// A 0 in every lane from `left` on.
inline float32x4_t KeepLanes(float32x4_t v, int64_t left) {
  if (left >= 4) return v;
  static constexpr int32_t kLanes[4] = {0, 1, 2, 3};
  const uint32x4_t kept = vcltq_s32(vld1q_s32(kLanes), vdupq_n_s32(static_cast<int32_t>(left)));
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), kept));
}

}  // namespace

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const float inverse = InverseRms(x, n, eps);
  for (int64_t i = 0; i < n; i += 4) {
    const float32x4_t scaled = vmulq_n_f32(LoadTail(x + i, n - i), inverse);
    StoreTail(out + i, n - i, vmulq_f32(scaled, LoadTail(weight + i, n - i)));
  }
}

void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  const float sum =
      SumStrided(n, [&](int64_t i, float32x4_t& partial) { partial = vaddq_f32(partial, LoadTail(x + i, n - i)); });
  const float32x4_t mean = vdupq_n_f32(sum / static_cast<float>(n));
  const float squares = SumStrided(n, [&](int64_t i, float32x4_t& partial) {
    const float32x4_t d = KeepLanes(vsubq_f32(LoadTail(x + i, n - i), mean), n - i);
    partial = vfmaq_f32(partial, d, d);
  });
  const float inverse = InverseRoot(squares / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; i += 4) {
    const float32x4_t scaled =
        vmulq_f32(vmulq_n_f32(vsubq_f32(LoadTail(x + i, n - i), mean), inverse), LoadTail(weight + i, n - i));
    StoreTail(out + i, n - i, bias != nullptr ? vaddq_f32(scaled, LoadTail(bias + i, n - i)) : scaled);
  }
}

void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin) {
  const int pairs = rope_dims / 2;
  for (int h = 0; h < heads; ++h, x += stride) {
    int i = 0;
    for (; i + 4 <= pairs; i += 4) {
      const float32x4_t c = vld1q_f32(cos + i), s = vld1q_f32(sin + i);
      const float32x4x2_t v = vld2q_f32(x + 2 * i);  // the even elements and the odd
      const float32x4_t even = vfmaq_f32(vnegq_f32(vmulq_f32(v.val[1], s)), v.val[0], c);
      const float32x4_t odd = vfmaq_f32(vmulq_f32(v.val[0], s), v.val[1], c);
      vst2q_f32(x + 2 * i, {{even, odd}});
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
    for (int i = 0; i < pairs; i += 4) {
      const int left = pairs - i;
      const float32x4_t c = LoadTail(cos + i, left), s = LoadTail(sin + i, left);
      const float32x4_t first = LoadTail(x + i, left), second = LoadTail(x + i + pairs, left);
      StoreTail(x + i, left, vfmaq_f32(vnegq_f32(vmulq_f32(second, s)), first, c));
      StoreTail(x + i + pairs, left, vfmaq_f32(vmulq_f32(first, s), second, c));
    }
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) { Activate<Silu>(gate, up, n, out); }

void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) { Activate<GeluTanh>(gate, up, n, out); }

void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out) { Activate<Clamped>(gate, up, n, out); }

void AddScaled(const float* y, float scale, int64_t n, float* x) {
  for (int64_t i = 0; i < n; i += 4) {
    StoreTail(x + i, n - i, vfmaq_n_f32(LoadTail(x + i, n - i), LoadTail(y + i, n - i), scale));
  }
}

void SoftCap(float* x, int64_t n, float cap) {
  for (int64_t i = 0; i < n; i += 4) StoreTail(x + i, n - i, Capped(LoadTail(x + i, n - i), cap));
}

void F32ToF16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 4) {
    const uint16x4_t halves = vreinterpret_u16_f16(vcvt_f16_f32(LoadTail(x + i, n - i)));
    if (n - i >= 4) {
      vst1_u16(out + i, halves);
    } else {
      uint16_t four[4];
      vst1_u16(four, halves);
      for (int64_t j = i; j < n; ++j) out[j] = four[j - i];
    }
  }
}

}  // namespace tandem::engine::neon
