// A block of a quantised format as exact integers: what the scalar kernels multiply, and what dequantising multiplies
// out. The formats differ in where a block keeps its bits; read, they are all alike:
//
//   x[i] = (d * scale[i / 16]) * q[i] - dmin * min[i / 16]
//
// Formats without sub-block scales have scale 1; formats without mins have dmin 0 and min 0. The fractions that some
// formats apply to the scale (an eighth, a quarter) are powers of two and lie in d.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tandem::engine {

inline constexpr size_t kLargestBlock = 256;

struct IntegerBlock {
  float d = 0, dmin = 0;
  std::array<int16_t, kLargestBlock / 16> scale;  // -128..127
  std::array<int16_t, kLargestBlock / 16> min;    // 0..63
  std::array<int8_t, kLargestBlock> q;
};

// Reads one block. Every pattern of bits is some block: nothing here can fail. Only the first block_elements of q, and
// as many scales and mins as they need, are set.
void DecodeQ4_0(const std::byte* block, IntegerBlock* out);
void DecodeQ4_1(const std::byte* block, IntegerBlock* out);
void DecodeQ5_0(const std::byte* block, IntegerBlock* out);
void DecodeQ5_1(const std::byte* block, IntegerBlock* out);
void DecodeQ8_0(const std::byte* block, IntegerBlock* out);
void DecodeQ2K(const std::byte* block, IntegerBlock* out);
void DecodeQ3K(const std::byte* block, IntegerBlock* out);
void DecodeQ4K(const std::byte* block, IntegerBlock* out);
void DecodeQ5K(const std::byte* block, IntegerBlock* out);
void DecodeQ6K(const std::byte* block, IntegerBlock* out);
void DecodeIq4Nl(const std::byte* block, IntegerBlock* out);
void DecodeIq4Xs(const std::byte* block, IntegerBlock* out);
void DecodeMxfp4(const std::byte* block, IntegerBlock* out);
void DecodeTq1_0(const std::byte* block, IntegerBlock* out);
void DecodeTq2_0(const std::byte* block, IntegerBlock* out);
void DecodeIq2Xxs(const std::byte* block, IntegerBlock* out);
void DecodeIq2Xs(const std::byte* block, IntegerBlock* out);
void DecodeIq2S(const std::byte* block, IntegerBlock* out);
void DecodeIq3Xxs(const std::byte* block, IntegerBlock* out);
void DecodeIq3S(const std::byte* block, IntegerBlock* out);
void DecodeIq1S(const std::byte* block, IntegerBlock* out);
void DecodeIq1M(const std::byte* block, IntegerBlock* out);

}  // namespace tandem::engine
