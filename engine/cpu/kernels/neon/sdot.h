// Dot products of weights and activations by sdot: 4 rows and one token an instruction. Rules as in
// kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/neon/simd.h"

namespace tandem::engine {
namespace {

constexpr int kVector = 4 * kRowGroup;  // bytes of a word of all rows

// Fixes the place of a sum's update in the instruction order. Left free, GCC unpacks the weights of an unrolled loop
// first and keeps them on the stack. No instruction of its own.
inline void KeepOrder(int32x4_t& sum) { __asm__("" : "+w"(sum)); }

// The bytes of four adjacent words of a quad: the weights of 16 elements, or what they are unpacked from. Their order
// is that of the Sums class that loaded them; unpacking goes byte by byte and keeps it.
struct Units {
  uint8x16_t v[4];

  template <typename Op>
  static Units Each(Op op) {
    return {{op(0), op(1), op(2), op(3)}};
  }
};

// int32 sums of a quad and kRows tokens, which start at zero.
template <int kRows>
struct SdotSums {
  int32x4_t of[kRows] = {};

  // The words of a quad: each vector a word, a row a lane.
  static Units LoadUnits(const void* first) {
    const uint8_t* p = static_cast<const uint8_t*>(first);
    return Units::Each([&](int i) { return vld1q_u8(p + i * kVector); });
  }

  // 16 elements of each token.
  struct Inputs {
    int8x16_t x[kRows];
  };
  static Inputs LoadInputs(const int8_t* x, int64_t stride) {
    Inputs in;
    for (int r = 0; r < kRows; ++r) in.x[r] = vld1q_s8(x + r * stride);
    return in;
  }

  void Add(const Units& units, const Inputs& in) {
    for (int r = 0; r < kRows; ++r) {
      of[r] = vdotq_laneq_s32(of[r], vreinterpretq_s8_u8(units.v[0]), in.x[r], 0);
      of[r] = vdotq_laneq_s32(of[r], vreinterpretq_s8_u8(units.v[1]), in.x[r], 1);
      of[r] = vdotq_laneq_s32(of[r], vreinterpretq_s8_u8(units.v[2]), in.x[r], 2);
      of[r] = vdotq_laneq_s32(of[r], vreinterpretq_s8_u8(units.v[3]), in.x[r], 3);
      KeepOrder(of[r]);
    }
  }

  int32x4_t Token(int r) const { return of[r]; }
};

}  // namespace
}  // namespace tandem::engine
