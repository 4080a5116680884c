// The words of planes.h on NEON: 16 rows in four registers. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/neon/simd.h"

namespace tandem::engine {
namespace {

struct Words {
  uint32x4_t quad[kQuads];

  static Words Load(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return Each([&](int q) { return vreinterpretq_u32_u8(vld1q_u8(bytes + 16 * q)); });
  }
  static Words LoadHalves(const void* p) {  // 16 bits, zero above
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return Each([&](int q) { return vmovl_u16(vreinterpret_u16_u8(vld1_u8(bytes + 8 * q))); });
  }
  static Words Splat(uint32_t value) {
    return Each([&](int) { return vdupq_n_u32(value); });
  }
  void Store(void* p) const {
    uint8_t* out = static_cast<uint8_t*>(p);
    for (int q = 0; q < kQuads; ++q) vst1q_u8(out + 16 * q, vreinterpretq_u8_u32(quad[q]));
  }
  // Half floats in the low 16 bits, as floats multiplied by `times`.
  static void StoreHalves(Words halves, float times, float* out) {
    for (int q = 0; q < kQuads; ++q) {
      const float32x4_t floats = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(halves.quad[q])));
      vst1q_f32(out + 4 * q, vmulq_n_f32(floats, times));
    }
  }

  // Per word.
  friend Words operator&(Words a, Words b) {
    return Each([&](int q) { return a.quad[q] & b.quad[q]; });
  }
  friend Words operator|(Words a, Words b) {
    return Each([&](int q) { return a.quad[q] | b.quad[q]; });
  }
  friend Words operator^(Words a, Words b) {
    return Each([&](int q) { return a.quad[q] ^ b.quad[q]; });
  }
  friend Words operator<<(Words a, int bits) {
    return Each([&](int q) { return a.quad[q] << bits; });
  }
  friend Words operator>>(Words a, int bits) {
    return Each([&](int q) { return a.quad[q] >> bits; });
  }
  static Words Add(Words a, Words b) {
    return Each([&](int q) { return a.quad[q] + b.quad[q]; });
  }
  static Words Multiply(Words a, Words b) {
    return Each([&](int q) { return a.quad[q] * b.quad[q]; });
  }
  // Per byte.
  static Words AddBytes(Words a, Words b) {
    return EachBytes(a, b, [](auto x, auto y) { return vaddq_u8(x, y); });
  }
  static Words SubtractBytes(Words a, Words b) {
    return EachBytes(a, b, [](auto x, auto y) { return vsubq_u8(x, y); });
  }
  static Words SubtractBytesToZero(Words a, Words b) {  // unsigned, not below 0
    return EachBytes(a, b, [](auto x, auto y) { return vqsubq_u8(x, y); });
  }
  static Words MinBytes(Words a, Words b) {  // unsigned
    return EachBytes(a, b, [](auto x, auto y) { return vminq_u8(x, y); });
  }

  // Bytes of 255 where the bit of their position is set in the low four bits; the other bits do not matter.
  static Words SpreadBits(Words bits) {
    // Each byte of a word takes the word's lowest byte and tests the bit of its position.
    static constexpr uint8_t kLowest[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const uint8x16_t lowest = vld1q_u8(kLowest);
    return EachBytes(bits, Splat(0x08040201), [&](auto x, auto y) { return vtstq_u8(vqtbl1q_u8(x, lowest), y); });
  }
  // The byte of a table of 16 for each byte 0..15.
  using Table = uint8x16_t;
  static Table MakeTable(const int8_t (&values)[16], int plus) {
    return vaddq_u8(vreinterpretq_u8_s8(vld1q_s8(values)), vdupq_n_u8(static_cast<uint8_t>(plus)));
  }
  static Words Lookup(Table table, Words indices) {
    return EachBytes(indices, indices, [&](auto x, auto) { return vqtbl1q_u8(table, x); });
  }
  // Entry of a table for each word.
  static Words Gather(const uint16_t* table, Words indices) {
    uint32_t words[kRowGroup];
    indices.Store(words);
    for (uint32_t& word : words) word = table[word];
    return Load(words);
  }

 private:
  template <typename Op>
  static Words Each(Op op) {
    return {{op(0), op(1), op(2), op(3)}};
  }
  template <typename Op>
  static Words EachBytes(Words a, Words b, Op op) {
    return Each([&](int q) {
      return vreinterpretq_u32_u8(op(vreinterpretq_u8_u32(a.quad[q]), vreinterpretq_u8_u32(b.quad[q])));
    });
  }
};

}  // namespace
}  // namespace tandem::engine
