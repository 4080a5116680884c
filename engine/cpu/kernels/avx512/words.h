// The words of planes.h on AVX-512: 16 rows in one register. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx512/simd.h"

namespace tandem::engine {
namespace {

struct Words {
  __m512i v;

  static Words Load(const void* p) { return {Load512(p)}; }
  static Words LoadHalves(const void* p) { return {_mm512_cvtepu16_epi32(Load256(p))}; }  // 16 bits, zero above
  static Words Splat(uint32_t value) { return {_mm512_set1_epi32(static_cast<int32_t>(value))}; }
  void Store(void* p) const { _mm512_storeu_si512(p, v); }
  // Half floats in the low 16 bits, as floats multiplied by `times`.
  static void StoreHalves(Words halves, float times, float* out) {
    const __m512 floats = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves.v));
    _mm512_storeu_ps(out, _mm512_mul_ps(floats, _mm512_set1_ps(times)));
  }

  // Per word.
  friend Words operator&(Words a, Words b) { return {_mm512_and_si512(a.v, b.v)}; }
  friend Words operator|(Words a, Words b) { return {_mm512_or_si512(a.v, b.v)}; }
  friend Words operator^(Words a, Words b) { return {_mm512_xor_si512(a.v, b.v)}; }
  friend Words operator<<(Words a, int bits) { return {_mm512_slli_epi32(a.v, static_cast<unsigned>(bits))}; }
  friend Words operator>>(Words a, int bits) { return {_mm512_srli_epi32(a.v, static_cast<unsigned>(bits))}; }
  static Words Add(Words a, Words b) { return {_mm512_add_epi32(a.v, b.v)}; }
  static Words Multiply(Words a, Words b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
  // Per byte.
  static Words AddBytes(Words a, Words b) { return {_mm512_add_epi8(a.v, b.v)}; }
  static Words SubtractBytes(Words a, Words b) { return {_mm512_sub_epi8(a.v, b.v)}; }
  static Words SubtractBytesToZero(Words a, Words b) { return {_mm512_subs_epu8(a.v, b.v)}; }  // unsigned, not below 0
  static Words MinBytes(Words a, Words b) { return {_mm512_min_epu8(a.v, b.v)}; }              // unsigned

  // Bytes of 255 where the bit of their position is set in the low four bits; the other bits do not matter.
  static Words SpreadBits(Words bits) {
    const __m512i masks = _mm512_setr_epi32(0, 0xff, 0xff00, 0xffff, 0xff0000, 0xff00ff, 0xffff00, 0xffffff,  //
                                            ~0xffffff, ~0xffff00, ~0xff00ff, ~0xff0000, ~0xffff, ~0xff00, ~0xff, ~0);
    return {_mm512_permutexvar_epi32(bits.v, masks)};
  }
  // The byte of a table of 16 for each byte 0..15.
  using Table = __m512i;
  static Table MakeTable(const int8_t (&values)[16], int plus) {
    return _mm512_broadcast_i32x4(_mm_add_epi8(Load128(values), _mm_set1_epi8(static_cast<char>(plus))));
  }
  static Words Lookup(Table table, Words indices) { return {_mm512_shuffle_epi8(table, indices.v)}; }
  // Entry of a table with one entry to spare at its end, for each word.
  static Words Gather(const uint16_t* table, Words indices) {
    return {_mm512_and_si512(_mm512_i32gather_epi32(indices.v, table, 2), _mm512_set1_epi32(0xffff))};
  }
};

}  // namespace
}  // namespace tandem::engine
