// The codebook formats: super-blocks of 256 elements, groups of eight (IQ3: four) of which share one code. Codebooks
// and levels: grids.h. All formulas are in units of the format's levels; a sign bit that is set means minus.
//
// IQ2_XXS, 66 bytes: half d | 8 x { u8 code[4] | u32 word }, one pair for each 32 elements
//   word: four 7-bit sign sets from bit 0 up, 4-bit s at bit 28.   x = (d / 8) * (2 s + 1) * (+-level)
//   A sign set has the signs of seven elements; the eighth is minus if the seven have an odd number of them.
// IQ2_XS, 74 bytes: half d | u16 code[32] | u8 s[8]
//   code: 9 bits of code, 7-bit sign set above. s: a nibble for each 16 elements, low one first. Formula as IQ2_XXS.
// IQ2_S, 82 bytes: half d | u8 code[32] | u8 signs[32] | u8 upper[8] | u8 s[8]
//   Two upper bits of a code, four codes a byte; eight sign bits for eight elements. The rest as IQ2_XS.
// IQ3_XXS, 98 bytes: half d | u8 code[64] | u32 word[8], a word as in IQ2_XXS.   x = (d / 4) * (2 s + 1) * (+-level)
// IQ3_S, 110 bytes: half d | u8 code[64] | u8 upper[8] | u8 signs[32] | u8 s[4]
//   One upper bit of a code, eight codes a byte; s: a nibble for each 32 elements.   x = d * (2 s + 1) * (+-level)
// IQ1_S, 50 bytes: half d | u8 code[32] | u16 upper[8], one for each 32 elements
//   upper: 3 upper bits of four codes from bit 0 up, 3-bit s at bit 12, bit 15 = minus.
//   x = (d / 8) * (2 s + 1) * (level +- 1)
// IQ1_M, 56 bytes: u8 code[32] | u8 upper[16] | u16 scales[4]
//   upper: a nibble a code: 3 upper bits, bit 3 = minus. scales: 3-bit s of four groups of 16 elements from bit 0 up;
//   the top nibbles of the four words, first one lowest, make up the half d. Formula as IQ1_S.
#include <bit>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/grids.h"
#include "engine/quant/integer_block.h"

namespace tandem::engine {
namespace {

constexpr int kCodes = 32;  // groups of eight elements

int Byte(const std::byte* p) { return std::to_integer<int>(*p); }

// The 7-bit set `index` with the eighth sign that makes their number even.
int CompleteSigns(int index) { return index | (std::popcount(static_cast<unsigned>(index)) & 1) << 7; }

int8_t Signed(int level, int signs, int i) { return static_cast<int8_t>((signs >> i & 1) != 0 ? -level : level); }

void SetEight(const uint16_t* grid, int code, int signs, int8_t* q) {
  for (int i = 0; i < 8; ++i) q[i] = Signed(kLevelsIq2[grid[code] >> (2 * i) & 3], signs, i);
}

// Four elements; their signs are the low four bits.
void SetFour(const uint16_t* grid, const int8_t* levels, int code, int signs, int8_t* q) {
  for (int i = 0; i < 4; ++i) q[i] = Signed(levels[grid[code] >> (4 * i) & 15], signs, i);
}

void SetIq1(int code, bool minus, int8_t* q) {
  for (int i = 0; i < 8; ++i) {
    q[i] = static_cast<int8_t>(kLevelsIq1[kGridIq1[code] >> (2 * i) & 3] + (minus ? -1 : 1));
  }
}

// A nibble for each 16 elements.
void SetNibbleScales(const std::byte* nibbles, IntegerBlock* out) {
  for (int j = 0; j < 16; ++j) {
    out->scale[j] = static_cast<int16_t>(2 * (Byte(nibbles + j / 2) >> (4 * (j % 2)) & 15) + 1);
  }
}

void Begin(float d, IntegerBlock* out) {
  out->d = d;
  out->dmin = 0;
  out->min.fill(0);
}

}  // namespace

void DecodeIq2Xxs(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)) * 0.125f, out);
  for (int b = 0; b < 8; ++b) {
    const std::byte* pair = block + 2 + 8 * b;
    const uint32_t word = LoadU32(pair + 4);
    out->scale[2 * b] = out->scale[2 * b + 1] = static_cast<int16_t>(2 * (word >> 28) + 1);
    for (int g = 0; g < 4; ++g) {
      const int signs = CompleteSigns(static_cast<int>(word >> (7 * g)) & 127);
      SetEight(kGridIq2Xxs, Byte(pair + g), signs, &out->q[32 * b + 8 * g]);
    }
  }
}

void DecodeIq2Xs(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)) * 0.125f, out);
  SetNibbleScales(block + 66, out);
  for (int g = 0; g < kCodes; ++g) {
    const int code = LoadU16(block + 2 + 2 * g);
    SetEight(kGridIq2Xs, code & 511, CompleteSigns(code >> 9), &out->q[8 * g]);
  }
}

void DecodeIq2S(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)) * 0.125f, out);
  SetNibbleScales(block + 74, out);
  for (int g = 0; g < kCodes; ++g) {
    const int upper = Byte(block + 66 + g / 4) >> (2 * (g % 4)) & 3;
    SetEight(kGridIq2S, Byte(block + 2 + g) | upper << 8, Byte(block + 34 + g), &out->q[8 * g]);
  }
}

void DecodeIq3Xxs(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)) * 0.25f, out);
  for (int b = 0; b < 8; ++b) {
    const uint32_t word = LoadU32(block + 66 + 4 * b);
    out->scale[2 * b] = out->scale[2 * b + 1] = static_cast<int16_t>(2 * (word >> 28) + 1);
    for (int g = 0; g < 8; ++g) {
      const int signs = CompleteSigns(static_cast<int>(word >> (7 * (g / 2))) & 127);
      SetFour(kGridIq3Xxs, kLevelsIq3Xxs, Byte(block + 2 + 8 * b + g), signs >> (4 * (g % 2)), &out->q[32 * b + 4 * g]);
    }
  }
}

void DecodeIq3S(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)), out);
  for (int j = 0; j < 16; ++j) {
    out->scale[j] = static_cast<int16_t>(2 * (Byte(block + 106 + j / 4) >> (4 * (j / 2 % 2)) & 15) + 1);
  }
  for (int g = 0; g < 64; ++g) {
    const int code = Byte(block + 2 + g) | (Byte(block + 66 + g / 8) >> (g % 8) & 1) << 8;
    SetFour(kGridIq3S, kLevelsIq3S, code, Byte(block + 74 + g / 2) >> (4 * (g % 2)), &out->q[4 * g]);
  }
}

void DecodeIq1S(const std::byte* block, IntegerBlock* out) {
  Begin(HalfToFloat(LoadU16(block)) * 0.125f, out);
  for (int g = 0; g < kCodes; ++g) {
    const int upper = LoadU16(block + 34 + 2 * (g / 4));
    out->scale[g / 2] = static_cast<int16_t>(2 * (upper >> 12 & 7) + 1);
    SetIq1(Byte(block + 2 + g) | (upper >> (3 * (g % 4)) & 7) << 8, (upper & 0x8000) != 0, &out->q[8 * g]);
  }
}

void DecodeIq1M(const std::byte* block, IntegerBlock* out) {
  const std::byte* scales = block + 48;
  unsigned d = 0;
  for (int i = 0; i < 4; ++i) d |= (LoadU16(scales + 2 * i) >> 12) << (4 * i);
  Begin(HalfToFloat(static_cast<uint16_t>(d)) * 0.125f, out);
  for (int j = 0; j < 16; ++j) {
    out->scale[j] = static_cast<int16_t>(2 * (LoadU16(scales + 2 * (j / 4)) >> (3 * (j % 4)) & 7) + 1);
  }
  for (int g = 0; g < kCodes; ++g) {
    const int upper = Byte(block + 32 + g / 2) >> (4 * (g % 2)) & 15;
    SetIq1(Byte(block + g) | (upper & 7) << 8, (upper & 8) != 0, &out->q[8 * g]);
  }
}

}  // namespace tandem::engine
