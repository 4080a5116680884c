// The words of planes.h on AVX2: 16 rows in two registers. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/simd.h"

namespace tandem::engine {
namespace {

struct Words {
  __m256i half[2];  // rows 0..7 and 8..15

  static Words Load(const void* p) {
    const char* bytes = static_cast<const char*>(p);
    return {{Load256(bytes), Load256(bytes + 32)}};
  }
  static Words LoadHalves(const void* p) {  // 16 bits, zero above
    const char* bytes = static_cast<const char*>(p);
    return {{_mm256_cvtepu16_epi32(Load128(bytes)), _mm256_cvtepu16_epi32(Load128(bytes + 16))}};
  }
  static Words Splat(uint32_t value) {
    const __m256i v = _mm256_set1_epi32(static_cast<int32_t>(value));
    return {{v, v}};
  }
  void Store(void* p) const {
    __m256i* out = static_cast<__m256i*>(p);
    _mm256_storeu_si256(out, half[0]);
    _mm256_storeu_si256(out + 1, half[1]);
  }
  // Half floats in the low 16 bits, as floats multiplied by `times`.
  static void StoreHalves(Words halves, float times, float* out) {
    for (int h = 0; h < 2; ++h) {
      const __m256i packed = _mm256_packus_epi32(halves.half[h], halves.half[h]);
      const __m128i eight = _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
      _mm256_storeu_ps(out + 8 * h, _mm256_mul_ps(_mm256_cvtph_ps(eight), _mm256_set1_ps(times)));
    }
  }

  // Per word.
  friend Words operator&(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_and_si256(x, y); });
  }
  friend Words operator|(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_or_si256(x, y); });
  }
  friend Words operator^(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_xor_si256(x, y); });
  }
  friend Words operator<<(Words a, int bits) {
    return {{_mm256_slli_epi32(a.half[0], bits), _mm256_slli_epi32(a.half[1], bits)}};
  }
  friend Words operator>>(Words a, int bits) {
    return {{_mm256_srli_epi32(a.half[0], bits), _mm256_srli_epi32(a.half[1], bits)}};
  }
  static Words Add(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_add_epi32(x, y); });
  }
  static Words Multiply(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_mullo_epi32(x, y); });
  }
  // Per byte.
  static Words AddBytes(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_add_epi8(x, y); });
  }
  static Words SubtractBytes(Words a, Words b) {
    return Each(a, b, [](auto x, auto y) { return _mm256_sub_epi8(x, y); });
  }
  static Words SubtractBytesToZero(Words a, Words b) {  // unsigned, not below 0
    return Each(a, b, [](auto x, auto y) { return _mm256_subs_epu8(x, y); });
  }
  static Words MinBytes(Words a, Words b) {  // unsigned
    return Each(a, b, [](auto x, auto y) { return _mm256_min_epu8(x, y); });
  }

  // Bytes of 255 where the bit of their position is set in the low four bits; the other bits do not matter.
  static Words SpreadBits(Words bits) {
    // Each byte of a word takes the word's lowest byte and keeps the bit of its position.
    const __m256i lowest = _mm256_set_epi8(12, 12, 12, 12, 8, 8, 8, 8, 4, 4, 4, 4, 0, 0, 0, 0,  //
                                           12, 12, 12, 12, 8, 8, 8, 8, 4, 4, 4, 4, 0, 0, 0, 0);
    const __m256i positions = _mm256_set1_epi32(0x08040201);
    Words result;
    for (int h = 0; h < 2; ++h) {
      const __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(bits.half[h], lowest), positions);
      result.half[h] = _mm256_cmpeq_epi8(own, positions);
    }
    return result;
  }
  // The byte of a table of 16 for each byte 0..15.
  using Table = __m256i;
  static Table MakeTable(const int8_t (&values)[16], int plus) {
    return _mm256_broadcastsi128_si256(_mm_add_epi8(Load128(values), _mm_set1_epi8(static_cast<char>(plus))));
  }
  static Words Lookup(Table table, Words indices) {
    return {{_mm256_shuffle_epi8(table, indices.half[0]), _mm256_shuffle_epi8(table, indices.half[1])}};
  }
  // Entry of a table with one entry to spare at its end, for each word.
  static Words Gather(const uint16_t* table, Words indices) {
    const int* base = reinterpret_cast<const int*>(table);
    const Words found = {
        {_mm256_i32gather_epi32(base, indices.half[0], 2), _mm256_i32gather_epi32(base, indices.half[1], 2)}};
    return found & Splat(0xffff);
  }

 private:
  template <typename Op>
  static Words Each(Words a, Words b, Op op) {
    return {{op(a.half[0], b.half[0]), op(a.half[1], b.half[1])}};
  }
};

}  // namespace
}  // namespace tandem::engine
