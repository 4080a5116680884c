// The formats whose nibbles name a level of a fixed table (kLevelsIq4, kLevelsMxfp4 in grids.h).
//
// IQ4_NL, 18 bytes: half d | u8 qs[16]                 x = d * level
// MXFP4, 17 bytes: u8 e | u8 qs[16]                    x = 2^(e - 128) * level     (OCP Microscaling: the table holds
//   twice the E2M1 numbers, so the exponent's bias of 127 becomes 128). e = 255, a NaN there, is 2^127 here.
//   Both hold 32 elements: qs[i] has elements i (low) and i + 16 (high).
// IQ4_XS, 136 bytes: half d | u16 upper | u8 scales[4] | u8 qs[8][16]
//   256 elements in 8 sub-blocks of 32, x = (d * scale[s]) * level, scale in -32..31, stored + 32: its low nibble is in
//   scales[s / 2], low for even s; its upper two bits in `upper` at bit 2s.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/grids.h"
#include "engine/quant/integer_block.h"
#include "engine/quant/k_formats.h"
#include "engine/quant/scale_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kElements = 32;  // of a block, or of a sub-block of IQ4_XS
constexpr size_t kIq4NlBytes = 18, kMxfp4Bytes = 17, kIq4XsBytes = 136;
constexpr size_t kIq4XsSubBlocks = 8;
constexpr int kLargestExponent = 252;  // beyond it the larger levels would be infinite
constexpr Range kIq4XsScales = {-32, 31};

const LevelTable& Iq4Table() {
  static const LevelTable table(kLevelsIq4);
  return table;
}

const LevelTable& Mxfp4Table() {
  static const LevelTable table(kLevelsMxfp4);
  return table;
}

void DecodeNibbles(const std::byte* qs, const int8_t* levels, int8_t* q) {
  for (size_t i = 0; i < kElements; ++i) q[i] = levels[std::to_integer<int>(qs[i % 16]) >> (i < 16 ? 0 : 4) & 15];
}

void StoreNibbles(const Samples& samples, const LevelTable& table, double scale, std::byte* qs) {
  for (size_t i = 0; i < kElements / 2; ++i) {
    const int high = table.Quant(samples.x[i + 16], scale);
    qs[i] = static_cast<std::byte>(table.Quant(samples.x[i], scale) | high << 4);
  }
}

// 2^(e - 128), also where that is sub-normal.
float ExponentScale(int e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

// The exponent with the least error of the three in question: the largest level is 12, so 2^(e - 128) times 12 is near
// the largest element, rather above than below.
int ChooseExponent(const Samples& samples) {
  double largest = 0;
  for (size_t i = 0; i < samples.n; ++i) largest = std::max(largest, std::abs(samples.x[i]));
  if (largest == 0) return 0;
  const int base = static_cast<int>(std::floor(std::log2(largest))) - 3 + 128;
  int best = 0;
  double best_error = -1;
  for (int e = std::clamp(base - 1, 0, kLargestExponent); e <= std::clamp(base + 1, 0, kLargestExponent); ++e) {
    const double error = Mxfp4Table().Error(samples, ExponentScale(e));
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = e;
    }
  }
  return best;
}

int LoadIq4XsScale(const std::byte* block, size_t s) {
  const int low = std::to_integer<int>(block[4 + s / 2]) >> (4 * (s % 2)) & 15;
  return (low | (LoadU16(block + 2) >> (2 * s) & 3) << 4) - 32;
}

int ChooseIq4XsScale(const Samples& samples, double fitted, double d) {
  if (d == 0) return 0;
  const double low = kIq4XsScales.low, high = kIq4XsScales.high;
  const int nearest = static_cast<int>(std::clamp(std::nearbyint(fitted / d), low, high));
  int best = nearest;
  double best_error = -1;
  for (int s = std::max(kIq4XsScales.low, nearest - 1); s <= std::min(kIq4XsScales.high, nearest + 1); ++s) {
    const double error = Iq4Table().Error(samples, d * s);
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = s;
    }
  }
  return best;
}

void QuantizeIq4XsBlock(const float* src, const float* importance, std::byte* dst) {
  std::array<double, kIq4XsSubBlocks> fits;
  double largest = 0;
  const auto samples_of = [&](size_t s) {
    return Samples(src + s * kElements, ImportanceAt(importance, s * kElements), kElements);
  };
  for (size_t s = 0; s < kIq4XsSubBlocks; ++s) {
    fits[s] = Iq4Table().Fit(samples_of(s));
    if (std::abs(fits[s]) > std::abs(largest)) largest = fits[s];
  }
  std::fill(dst, dst + kIq4XsBytes, std::byte{0});
  StoreU16(ScaleToHalf(largest / kIq4XsScales.low), dst);
  const double d = HalfToFloat(LoadU16(dst));
  int upper = 0;
  for (size_t s = 0; s < kIq4XsSubBlocks; ++s) {
    const Samples samples = samples_of(s);
    const int scale = ChooseIq4XsScale(samples, fits[s], d);
    dst[4 + s / 2] |= static_cast<std::byte>(((scale + 32) & 15) << (4 * (s % 2)));
    upper |= (scale + 32) >> 4 << (2 * s);
    StoreNibbles(samples, Iq4Table(), d * scale, dst + 8 + 16 * s);
  }
  StoreU16(static_cast<uint16_t>(upper), dst + 2);
}

void DecodeBlock32(float d, const std::byte* qs, const int8_t* levels, IntegerBlock* out) {
  out->d = d;
  out->dmin = 0;
  out->scale[0] = out->scale[1] = 1;
  out->min[0] = out->min[1] = 0;
  DecodeNibbles(qs, levels, out->q.data());
}

}  // namespace

void DecodeIq4Nl(const std::byte* block, IntegerBlock* out) {
  DecodeBlock32(HalfToFloat(LoadU16(block)), block + 2, kLevelsIq4, out);
}

void DecodeMxfp4(const std::byte* block, IntegerBlock* out) {
  DecodeBlock32(ExponentScale(std::to_integer<int>(block[0])), block + 1, kLevelsMxfp4, out);
}

void DecodeIq4Xs(const std::byte* block, IntegerBlock* out) {
  out->d = HalfToFloat(LoadU16(block));
  out->dmin = 0;
  out->min.fill(0);
  for (size_t s = 0; s < kIq4XsSubBlocks; ++s) {
    out->scale[2 * s] = out->scale[2 * s + 1] = static_cast<int16_t>(LoadIq4XsScale(block, s));
    DecodeNibbles(block + 8 + 16 * s, kLevelsIq4, &out->q[kElements * s]);
  }
}

void QuantizeIq4Nl(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kElements, dst += kIq4NlBytes) {
    const Samples samples(src + start, ImportanceAt(importance, start), kElements);
    const uint16_t half = ScaleToHalf(Iq4Table().Fit(samples));
    StoreU16(half, dst);
    StoreNibbles(samples, Iq4Table(), HalfToFloat(half), dst + 2);
  }
}

void QuantizeMxfp4(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kElements, dst += kMxfp4Bytes) {
    const Samples samples(src + start, ImportanceAt(importance, start), kElements);
    const int e = ChooseExponent(samples);
    dst[0] = static_cast<std::byte>(e);
    StoreNibbles(samples, Mxfp4Table(), ExponentScale(e), dst + 1);
  }
}

void QuantizeIq4Xs(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += kIq4XsBytes) {
    QuantizeIq4XsBlock(src + start, ImportanceAt(importance, start), dst);
  }
}

}  // namespace tandem::engine
