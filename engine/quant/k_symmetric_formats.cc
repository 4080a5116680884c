// The super-block formats with a signed scale for each sub-block of 16 and no mins: Q3_K and Q6_K.
//
//   x = (d * scale[s]) * q
//
// Q3_K, 110 bytes: 32 bytes of third bits | 64 bytes of bit pairs | 12 bytes of 6-bit scales, stored + 32 | half d
//   q in -4..3, stored + 4. Run r of half h (k_formats.h), element l: its bit pair is in byte 32 h + l, at bit 2r; its
//   third bit in byte l, at bit 4 h + r.
//   The 12 bytes, for s in 0..7:  byte s has the low nibbles of scale[s] (low) and scale[s + 8] (high);
//                                 byte 8 + s % 4 the upper two bits of scale[s] at bit 2 (s / 4), for s in 0..15.
// Q6_K, 210 bytes: 128 bytes of low nibbles | 64 bytes of upper bit pairs | i8 scale[16] | half d
//   q in -32..31, stored + 32. Run r of half h, element l: its nibble is in byte 64 h + 32 (r & 1) + l, low for r < 2
//   and high otherwise; its upper two bits are in byte 32 h + l, at bit 2r.
#include <algorithm>
#include <array>
#include <cmath>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/integer_block.h"
#include "engine/quant/k_formats.h"
#include "engine/quant/scale_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kSubBlocks = 16;
constexpr size_t kSubBlock = 16;

int Byte(const std::byte* p) { return std::to_integer<int>(*p); }
void Add(std::byte* p, int bits) { *p |= static_cast<std::byte>(bits); }

struct Q3K {
  static constexpr size_t kBytes = 110, kQuantsAt = 32, kScalesAt = 96, kFactorAt = 108;
  static constexpr Range kQuants = {-4, 3}, kScales = {-32, 31};

  static int LoadScale(const std::byte* block, size_t s) {
    const std::byte* packed = block + kScalesAt;
    const int low = Byte(packed + s % 8) >> (s < 8 ? 0 : 4) & 15;
    return (low | (Byte(packed + 8 + s % 4) >> (2 * (s / 4)) & 3) << 4) - 32;
  }
  static void AddScale(int scale, size_t s, std::byte* block) {
    std::byte* packed = block + kScalesAt;
    Add(packed + s % 8, ((scale + 32) & 15) << (s < 8 ? 0 : 4));
    Add(packed + 8 + s % 4, (scale + 32) >> 4 << (2 * (s / 4)));
  }
  static int LoadQuant(const std::byte* block, size_t i) {
    const RunPlace place = PlaceInRun(i);
    const int pair = Byte(block + kQuantsAt + 32 * place.half + place.at) >> (2 * place.run) & 3;
    return (pair | (Byte(block + place.at) >> (4 * place.half + place.run) & 1) << 2) - 4;
  }
  static void AddQuant(int q, size_t i, std::byte* block) {
    const RunPlace place = PlaceInRun(i);
    Add(block + kQuantsAt + 32 * place.half + place.at, ((q + 4) & 3) << (2 * place.run));
    Add(block + place.at, (q + 4) >> 2 << (4 * place.half + place.run));
  }
};

struct Q6K {
  static constexpr size_t kBytes = 210, kUpperAt = 128, kScalesAt = 192, kFactorAt = 208;
  static constexpr Range kQuants = {-32, 31}, kScales = {-128, 127};

  static int LoadScale(const std::byte* block, size_t s) { return static_cast<int8_t>(block[kScalesAt + s]); }
  static void AddScale(int scale, size_t s, std::byte* block) {
    block[kScalesAt + s] = static_cast<std::byte>(static_cast<int8_t>(scale));
  }
  static size_t LowByte(const RunPlace& place) { return 64 * place.half + 32 * (place.run & 1) + place.at; }
  static int LoadQuant(const std::byte* block, size_t i) {
    const RunPlace place = PlaceInRun(i);
    const int low = Byte(block + LowByte(place)) >> (place.run < 2 ? 0 : 4) & 15;
    return (low | (Byte(block + kUpperAt + 32 * place.half + place.at) >> (2 * place.run) & 3) << 4) - 32;
  }
  static void AddQuant(int q, size_t i, std::byte* block) {
    const RunPlace place = PlaceInRun(i);
    Add(block + LowByte(place), ((q + 32) & 15) << (place.run < 2 ? 0 : 4));
    Add(block + kUpperAt + 32 * place.half + place.at, (q + 32) >> 4 << (2 * place.run));
  }
};

template <typename F>
void Decode(const std::byte* block, IntegerBlock* out) {
  out->d = HalfToFloat(LoadU16(block + F::kFactorAt));
  out->dmin = 0;
  out->min.fill(0);
  for (size_t s = 0; s < kSubBlocks; ++s) out->scale[s] = static_cast<int16_t>(F::LoadScale(block, s));
  for (size_t i = 0; i < kSuperBlock; ++i) out->q[i] = static_cast<int8_t>(F::LoadQuant(block, i));
}

// The integer scale nearest to the fitted one, or one off it, with the least error.
template <typename F>
int ChooseInteger(const Samples& samples, double fitted, double d) {
  if (d == 0) return 0;
  const double low = F::kScales.low, high = F::kScales.high;
  const int nearest = static_cast<int>(std::clamp(std::nearbyint(fitted / d), low, high));
  int best = nearest;
  double best_error = -1;
  for (int s = std::max(F::kScales.low, nearest - 1); s <= std::min(F::kScales.high, nearest + 1); ++s) {
    const double error = SymmetricError(samples, d * s, F::kQuants);
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = s;
    }
  }
  return best;
}

template <typename F>
void QuantizeBlock(const float* src, const float* importance, std::byte* dst) {
  std::array<double, kSubBlocks> fits;
  double largest = 0;
  const auto samples_of = [&](size_t s) {
    return Samples(src + s * kSubBlock, ImportanceAt(importance, s * kSubBlock), kSubBlock);
  };
  for (size_t s = 0; s < kSubBlocks; ++s) {
    fits[s] = FitSymmetric(samples_of(s), F::kQuants);
    if (std::abs(fits[s]) > std::abs(largest)) largest = fits[s];
  }
  std::fill(dst, dst + F::kBytes, std::byte{0});
  // The scale of largest magnitude takes the longer end of the range.
  StoreU16(ScaleToHalf(largest / F::kScales.low), dst + F::kFactorAt);
  const double d = HalfToFloat(LoadU16(dst + F::kFactorAt));
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const Samples samples = samples_of(s);
    const int scale = ChooseInteger<F>(samples, fits[s], d);
    F::AddScale(scale, s, dst);
    for (size_t i = 0; i < kSubBlock; ++i) {
      F::AddQuant(SymmetricQuant(samples.x[i], d * scale, F::kQuants), s * kSubBlock + i, dst);
    }
  }
}

template <typename F>
void Quantize(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += F::kBytes) {
    QuantizeBlock<F>(src + start, ImportanceAt(importance, start), dst);
  }
}

}  // namespace

void DecodeQ3K(const std::byte* block, IntegerBlock* out) { Decode<Q3K>(block, out); }
void DecodeQ6K(const std::byte* block, IntegerBlock* out) { Decode<Q6K>(block, out); }

void QuantizeQ3K(const float* src, const float* importance, std::byte* dst, size_t count) {
  Quantize<Q3K>(src, importance, dst, count);
}
void QuantizeQ6K(const float* src, const float* importance, std::byte* dst, size_t count) {
  Quantize<Q6K>(src, importance, dst, count);
}

}  // namespace tandem::engine
