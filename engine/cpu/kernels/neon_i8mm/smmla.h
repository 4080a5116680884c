// Dot products of weights and activations by smmla: 2 rows and two tokens an instruction, 8 elements of each. Rules as
// in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/neon/sdot.h"

namespace tandem::engine {
namespace {

// As SdotSums. Tokens go in pairs; the last of an odd number is its own partner. A single one has nothing to share an
// instruction with.
template <int kRows>
struct SmmlaSums {
  static constexpr int kPaired = (kRows + 1) / 2 * 2;
  // Of the pairs of tokens, rows 0, 1 and rows 2, 3: {row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1}.
  int32x4_t of[kPaired] = {};

  // Vectors of two rows, 8 elements of each: rows 0, 1 and rows 2, 3 of the first 8, then of the last.
  static Units LoadUnits(const void* first) {
    const Units words = SdotSums<1>::LoadUnits(first);
    return Units::Each([&](int i) {
      const uint32x4_t even = vreinterpretq_u32_u8(words.v[i / 2 * 2]);
      const uint32x4_t odd = vreinterpretq_u32_u8(words.v[i / 2 * 2 + 1]);
      return vreinterpretq_u8_u32(i % 2 == 0 ? vzip1q_u32(even, odd) : vzip2q_u32(even, odd));
    });
  }

  // Of each pair of tokens, the first 8 elements of both, then the last.
  struct Inputs {
    int8x16_t x[kPaired];
  };
  static Inputs LoadInputs(const int8_t* x, int64_t stride) {
    Inputs in;
    for (int r = 0; r < kRows; r += 2) {
      const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(x + r * stride));
      const int64x2_t b = r + 1 < kRows ? vreinterpretq_s64_s8(vld1q_s8(x + (r + 1) * stride)) : a;
      in.x[r] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
      in.x[r + 1] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
    }
    return in;
  }

  void Add(const Units& units, const Inputs& in) {
    for (int part = 0; part < 2; ++part) {
      const int8x16_t low = vreinterpretq_s8_u8(units.v[2 * part]);
      const int8x16_t high = vreinterpretq_s8_u8(units.v[2 * part + 1]);
      for (int r = 0; r < kRows; r += 2) {
        of[r] = vmmlaq_s32(of[r], low, in.x[r + part]);
        of[r + 1] = vmmlaq_s32(of[r + 1], high, in.x[r + part]);
        KeepOrder(of[r]);
        KeepOrder(of[r + 1]);
      }
    }
  }

  int32x4_t Token(int r) const { return r % 2 == 0 ? vuzp1q_s32(of[r], of[r + 1]) : vuzp2q_s32(of[r - 1], of[r]); }
};
template <>
struct SmmlaSums<1> : SdotSums<1> {};

}  // namespace
}  // namespace tandem::engine
