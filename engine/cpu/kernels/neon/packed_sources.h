// The formats that are multiplied as they lie: sources of integer_kernel.h. Layout of a block: engine/quant and
// engine/cpu/packed_matrix.h. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/neon/integer_kernel.h"

namespace tandem::engine {
namespace {

struct SourceQ8_0 {
  static constexpr int kBlock = 32, kBytes = 34, kParts = 1, kSteps = 2, kRuns = 1, kSums = 1, kShift = 0;
  static constexpr bool kScaled = false, kHasMins = false;
  using Scales = Nothing;
  template <int kRows>
  using TokenMins = NoMins<kRows>;

  const std::byte* block;

  static constexpr int At(int, int step, int) { return 16 * step; }
  Scales ScalesOf(int) const { return {}; }
  float32x4_t Factor(int quad) const { return LoadHalves(block + 8 * quad); }
  template <typename Sums>
  void Load(int, int step, int quad, Units (&out)[kRuns]) const {
    out[0] = Sums::LoadUnits(block + 2 * kRowGroup + 4 * step * kVector + 16 * quad);
  }
};

struct SourceQ4_0 {
  static constexpr int kBlock = 32, kBytes = 18, kParts = 1, kSteps = 1, kRuns = 2, kSums = 1, kShift = 4;
  static constexpr bool kScaled = false, kHasMins = false;
  using Scales = Nothing;
  template <int kRows>
  using TokenMins = NoMins<kRows>;

  const std::byte* block;

  static constexpr int At(int, int, int run) { return 16 * run; }
  Scales ScalesOf(int) const { return {}; }
  float32x4_t Factor(int quad) const { return LoadHalves(block + 8 * quad); }
  // A nibble n stands for n - 8: with its upper bit turned, that is n as a signed number.
  template <typename Sums>
  void Load(int, int, int quad, Units (&out)[kRuns]) const {
    const Units both = Sums::LoadUnits(block + 2 * kRowGroup + 16 * quad);
    const Units turned = Units::Each([&](int i) { return both.v[i] ^ vdupq_n_u8(0x88); });
    out[0] = Units::Each([&](int i) { return vshlq_n_u8(turned.v[i], 4); });
    out[1] = Units::Each([&](int i) { return turned.v[i] & vdupq_n_u8(0xf0); });
  }
};

// Q4_K and Q5_K. Part c is sub-blocks 2c (low nibbles) and 2c + 1 (high ones).
template <bool kFiveBits>
struct SourceQ4_Q5_K {
  static constexpr int kBlock = 256, kBytes = kFiveBits ? 176 : 144;
  static constexpr int kParts = 4, kSteps = 2, kRuns = 2, kSums = 2, kShift = 0;
  static constexpr bool kScaled = true, kHasMins = true;
  // Offsets inside a packed block.
  static constexpr int kScales = 4 * kRowGroup, kUpper = kScales + 3 * kVector;  // the fifth bits
  static constexpr int kNibbles = kUpper + (kFiveBits ? 8 * kVector : 0);

  const std::byte* block;

  static constexpr int At(int part, int step, int run) { return 64 * part + 32 * run + 16 * step; }
  float32x4_t Factor(int quad) const { return LoadHalves(block + 8 * quad); }
  float32x4_t MinFactor(int quad) const { return LoadHalves(block + 2 * kRowGroup + 8 * quad); }

  template <typename Sums>
  void Load(int part, int step, int quad, Units (&out)[kRuns]) const {
    const Units both = Sums::LoadUnits(block + kNibbles + (8 * part + 4 * step) * kVector + 16 * quad);
    out[0] = Units::Each([&](int i) { return both.v[i] & vdupq_n_u8(15); });
    out[1] = Units::Each([&](int i) { return vshrq_n_u8(both.v[i], 4); });
    if constexpr (kFiveBits) {
      const Units upper = Sums::LoadUnits(block + kUpper + 4 * step * kVector + 16 * quad);
      for (int run = 0; run < kRuns; ++run) {
        // Bit 2 * part + run becomes bit 4; a shift by less than zero goes to the right.
        const int8x16_t shift = vdupq_n_s8(static_cast<int8_t>(4 - 2 * part - run));
        out[run] = Units::Each([&](int i) { return out[run].v[i] | (vshlq_u8(upper.v[i], shift) & vdupq_n_u8(16)); });
      }
    }
  }

  // Sub-block j in byte j % 4 of each row's word [j / 4].
  struct Scales {
    uint8x16_t scale[2], min[2];
  };
  Scales ScalesOf(int quad) const {
    const uint8_t* p = reinterpret_cast<const uint8_t*>(block) + kScales + 16 * quad;
    const uint8x16_t a = vld1q_u8(p), b = vld1q_u8(p + kVector), c = vld1q_u8(p + 2 * kVector);
    const uint8x16_t six = vdupq_n_u8(63), upper = vdupq_n_u8(0x30);
    return {{a & six, (c & vdupq_n_u8(15)) | (vshrq_n_u8(a, 2) & upper)},
            {b & six, vshrq_n_u8(c, 4) | (vshrq_n_u8(b, 2) & upper)}};
  }
  static int32x4_t Scale(const Scales& scales, int, int part, int run) {
    const uint32x4_t words = vreinterpretq_u32_u8(scales.scale[part / 2]);
    return vreinterpretq_s32_u32((words >> (8 * (2 * part % 4 + run))) & vdupq_n_u32(255));
  }

  // The sums of the eight sub-blocks, of at most 32 * 127, as 64 * upper + lower in bytes: upper in the first eight,
  // lower in the last. So the mins, at most 63, are weights of a dot product.
  template <int kRows>
  struct TokenMins {
    int8x16_t parts[kRows];
    explicit TokenMins(const Tokens& t) {
      for (int r = 0; r < kRows; ++r) {
        const int32_t* p = t.sum16 + r * t.sum_stride;
        int16x4_t upper[2], lower[2];
        for (int h = 0; h < 2; ++h) {
          const int32x4_t sums = vpaddq_s32(vld1q_s32(p + 8 * h), vld1q_s32(p + 8 * h + 4));
          const int32x4_t nearest = vrshrq_n_s32(sums, 6);
          upper[h] = vmovn_s32(nearest);
          lower[h] = vmovn_s32(vsubq_s32(sums, vshlq_n_s32(nearest, 6)));
        }
        parts[r] =
            vcombine_s8(vmovn_s16(vcombine_s16(upper[0], upper[1])), vmovn_s16(vcombine_s16(lower[0], lower[1])));
      }
    }
  };
  template <int kRows>
  static int32x4_t Mins(const Scales& scales, int, const TokenMins<kRows>& tokens, int r) {
    const int8x16_t first = vreinterpretq_s8_u8(scales.min[0]), second = vreinterpretq_s8_u8(scales.min[1]);
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t upper =
        vdotq_laneq_s32(vdotq_laneq_s32(zero, first, tokens.parts[r], 0), second, tokens.parts[r], 1);
    const int32x4_t lower =
        vdotq_laneq_s32(vdotq_laneq_s32(zero, first, tokens.parts[r], 2), second, tokens.parts[r], 3);
    return vaddq_s32(vshlq_n_s32(upper, 6), lower);
  }
};

// Part p is half a run of each of the four runs of half p / 2: sub-blocks 8 (p / 2) + 2 run + p % 2.
struct SourceQ6_K {
  static constexpr int kBlock = 256, kBytes = 210, kParts = 4, kSteps = 1, kRuns = 4, kSums = 4, kShift = 2;
  static constexpr bool kScaled = true, kHasMins = false;
  // Offsets inside a packed block.
  static constexpr int kUpper = 32 * kVector, kScales = kUpper + 16 * kVector, kFactor = kScales + 4 * kVector;
  template <int kRows>
  using TokenMins = NoMins<kRows>;

  const std::byte* block;

  static constexpr int At(int part, int, int run) { return 128 * (part / 2) + 32 * run + 16 * (part % 2); }
  float32x4_t Factor(int quad) const { return LoadHalves(block + kFactor + 8 * quad); }

  // Six bits q stand for q - 32: with their upper bit turned, that is q as a signed number. They go to the top of the
  // byte.
  template <typename Sums>
  void Load(int part, int, int quad, Units (&out)[kRuns]) const {
    const int half = part / 2, word = 4 * (part % 2);
    const Units low0 = Sums::LoadUnits(block + (16 * half + word) * kVector + 16 * quad);
    const Units low1 = Sums::LoadUnits(block + (16 * half + 8 + word) * kVector + 16 * quad);
    const Units pairs = Sums::LoadUnits(block + kUpper + (8 * half + word) * kVector + 16 * quad);
    const Units top = Units::Each([&](int i) { return pairs.v[i] ^ vdupq_n_u8(0xaa); });
    const uint8x16_t six = vdupq_n_u8(0xfc);
    out[0] = Units::Each([&](int i) { return vsliq_n_u8(vshlq_n_u8(low0.v[i], 2), top.v[i], 6); });
    out[1] = Units::Each([&](int i) { return vsliq_n_u8(vshlq_n_u8(low1.v[i], 2), vshrq_n_u8(top.v[i], 2), 6); });
    out[2] = Units::Each([&](int i) { return vsriq_n_u8(vshlq_n_u8(top.v[i], 2), low0.v[i], 2) & six; });
    out[3] = Units::Each([&](int i) { return vsriq_n_u8(top.v[i], low1.v[i], 2) & six; });
  }

  // Sub-block j in byte j % 4 of each row's word [j / 4].
  using Scales = Nothing;
  Scales ScalesOf(int) const { return {}; }
  int32x4_t Scale(const Scales&, int quad, int part, int run) const {
    const std::byte* words = block + kScales + (part / 2 * 2 + run / 2) * kVector + 16 * quad;
    return vld1q_s32(reinterpret_cast<const int32_t*>(words)) << (24 - 8 * (2 * (run % 2) + part % 2)) >> 24;
  }
};

}  // namespace
}  // namespace tandem::engine
