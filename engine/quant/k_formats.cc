// Q4_K and Q6_K: super-blocks of 256 elements whose sub-blocks have integer scales.
//
// Q4_K, 144 bytes: half d | half dmin | 12 bytes of 6-bit scales and mins | 128 bytes of 4-bit quants
//   8 sub-blocks of 32:  x = (d * scale[s]) * q - (dmin * min[s]),  q in 0..15, scale and min in 0..63
//   The 12 bytes, for s in 0..3:  byte s      = scale[s]            | upper two bits of scale[s + 4] << 6
//                                 byte s + 4  = min[s]              | upper two bits of min[s + 4]   << 6
//                                 byte s + 8  = low nibble of scale[s + 4] | low nibble of min[s + 4] << 4
//   Quants: bytes 32p .. 32p+31 hold sub-block 2p in the low and sub-block 2p + 1 in the high nibbles.
//
// Q6_K, 210 bytes: 128 bytes of low nibbles | 64 bytes of upper bit pairs | int8 scale[16] | half d
//   16 sub-blocks of 16:  x = (d * scale[s]) * q,  q in -32..31, stored + 32
//   Each half of 128 elements is four runs of 32. Run r, element l: its nibble is in byte 64 * half + 32 * (r & 1) + l,
//   low for r < 2 and high otherwise; its upper two bits are in byte 32 * half + l, at bit 2r.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/k_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kSuperBlock = 256;
using SuperBlock = std::array<float, kSuperBlock>;

namespace q4k {

constexpr size_t kBytes = 144;
constexpr size_t kScalesAt = 4;
constexpr size_t kQuantsAt = 16;
constexpr size_t kSubBlocks = 8;
constexpr size_t kSubBlock = 32;
constexpr int kMaxQuant = 15;
constexpr int kMaxScale = 63;

struct Scales {
  std::array<int, kSubBlocks> scale;
  std::array<int, kSubBlocks> min;
};

Scales UnpackScales(const std::byte* packed) {
  Scales result;
  for (size_t s = 0; s < 4; ++s) {
    const int a = std::to_integer<int>(packed[s]);
    const int b = std::to_integer<int>(packed[s + 4]);
    const int c = std::to_integer<int>(packed[s + 8]);
    result.scale[s] = a & 63;
    result.min[s] = b & 63;
    result.scale[s + 4] = (c & 15) | ((a >> 6) << 4);
    result.min[s + 4] = (c >> 4) | ((b >> 6) << 4);
  }
  return result;
}

void PackScales(const Scales& scales, std::byte* packed) {
  for (size_t s = 0; s < 4; ++s) {
    packed[s] = static_cast<std::byte>(scales.scale[s] | ((scales.scale[s + 4] >> 4) << 6));
    packed[s + 4] = static_cast<std::byte>(scales.min[s] | ((scales.min[s + 4] >> 4) << 6));
    packed[s + 8] = static_cast<std::byte>((scales.scale[s + 4] & 15) | ((scales.min[s + 4] & 15) << 4));
  }
}

// The pair of integers in reach of the fitted ones (each rounded, or one off) with the least error: rounding a scale is
// often better repaired by the min than by the nearest value.
void ChooseIntegers(std::span<const float> x, const AffineFit& fit, double d, double dmin, int* scale, int* min) {
  const auto nearest = [](double value, double unit) {
    return unit > 0 ? static_cast<int>(std::clamp(std::nearbyint(value / unit), 0.0, double{kMaxScale})) : 0;
  };
  const int scale0 = nearest(fit.scale, d);
  const int min0 = nearest(fit.min, dmin);
  double best_error = -1;
  for (int s = std::max(0, scale0 - 1); s <= std::min(kMaxScale, scale0 + 1); ++s) {
    for (int m = std::max(0, min0 - 1); m <= std::min(kMaxScale, min0 + 1); ++m) {
      const double error = AffineError(x, {.scale = d * s, .min = dmin * m}, kMaxQuant);
      if (best_error < 0 || error < best_error) {
        best_error = error;
        *scale = s;
        *min = m;
      }
    }
  }
}

void QuantizeBlock(const SuperBlock& x, std::byte* dst) {
  std::array<AffineFit, kSubBlocks> fits;
  double largest_scale = 0, largest_min = 0;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    fits[s] = FitAffine(std::span(x).subspan(s * kSubBlock, kSubBlock), kMaxQuant);
    largest_scale = std::max(largest_scale, fits[s].scale);
    largest_min = std::max(largest_min, fits[s].min);
  }
  StoreU16(ScaleToHalf(largest_scale / kMaxScale), dst);
  StoreU16(ScaleToHalf(largest_min / kMaxScale), dst + 2);
  const double d = HalfToFloat(LoadU16(dst));
  const double dmin = HalfToFloat(LoadU16(dst + 2));

  Scales scales;
  std::fill(dst + kQuantsAt, dst + kBytes, std::byte{0});
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const auto sub = std::span(x).subspan(s * kSubBlock, kSubBlock);
    ChooseIntegers(sub, fits[s], d, dmin, &scales.scale[s], &scales.min[s]);
    const AffineFit stored{.scale = d * scales.scale[s], .min = dmin * scales.min[s]};
    std::byte* quants = dst + kQuantsAt + s / 2 * kSubBlock;
    for (size_t i = 0; i < kSubBlock; ++i) {
      quants[i] |= static_cast<std::byte>(AffineQuant(sub[i], stored, kMaxQuant) << (s % 2 * 4));
    }
  }
  PackScales(scales, dst + kScalesAt);
}

}  // namespace q4k

namespace q6k {

constexpr size_t kBytes = 210;
constexpr size_t kUpperAt = 128;
constexpr size_t kScalesAt = 192;
constexpr size_t kFactorAt = 208;
constexpr size_t kSubBlocks = 16;
constexpr size_t kSubBlock = 16;
constexpr int kHalfRange = 32;
constexpr int kMaxScale = 127;

// Where element i of the super-block keeps its bits.
struct Place {
  size_t low_byte;
  int low_shift;
  size_t upper_byte;
  int upper_shift;
};
Place PlaceOf(size_t i) {
  const size_t half = i / 128, run = i % 128 / 32, l = i % 32;
  return {64 * half + 32 * (run & 1) + l, run < 2 ? 0 : 4, kUpperAt + 32 * half + l, static_cast<int>(2 * run)};
}

// The integer scale nearest to the fitted one, or one off it, with the least error.
int ChooseInteger(std::span<const float> x, double fitted, double d) {
  if (d == 0) return 0;
  const int nearest = static_cast<int>(std::clamp(std::nearbyint(fitted / d), -128.0, 127.0));
  int best = nearest;
  double best_error = -1;
  for (int s = std::max(-128, nearest - 1); s <= std::min(127, nearest + 1); ++s) {
    const double error = SymmetricError(x, d * s, kHalfRange);
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = s;
    }
  }
  return best;
}

void QuantizeBlock(const SuperBlock& x, std::byte* dst) {
  std::array<double, kSubBlocks> fits;
  double largest = 0;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    fits[s] = FitSymmetric(std::span(x).subspan(s * kSubBlock, kSubBlock), kHalfRange);
    largest = std::max(largest, std::abs(fits[s]));
  }
  std::fill(dst, dst + kBytes, std::byte{0});
  StoreU16(ScaleToHalf(largest / kMaxScale), dst + kFactorAt);
  const double d = HalfToFloat(LoadU16(dst + kFactorAt));
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const auto sub = std::span(x).subspan(s * kSubBlock, kSubBlock);
    const int scale = ChooseInteger(sub, fits[s], d);
    dst[kScalesAt + s] = static_cast<std::byte>(static_cast<int8_t>(scale));
    for (size_t i = 0; i < kSubBlock; ++i) {
      const int q = SymmetricQuant(sub[i], d * scale, kHalfRange) + kHalfRange;
      const Place place = PlaceOf(s * kSubBlock + i);
      dst[place.low_byte] |= static_cast<std::byte>((q & 15) << place.low_shift);
      dst[place.upper_byte] |= static_cast<std::byte>((q >> 4) << place.upper_shift);
    }
  }
}

}  // namespace q6k

SuperBlock FiniteBlock(const float* src) {
  SuperBlock block;
  std::transform(src, src + kSuperBlock, block.begin(), Finite);
  return block;
}

}  // namespace

void DequantizeQ4K(const std::byte* src, float* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, src += q4k::kBytes) {
    const float d = HalfToFloat(LoadU16(src));
    const float dmin = HalfToFloat(LoadU16(src + 2));
    const q4k::Scales scales = q4k::UnpackScales(src + q4k::kScalesAt);
    for (size_t s = 0; s < q4k::kSubBlocks; ++s) {
      const float scale = d * static_cast<float>(scales.scale[s]);
      const float min = dmin * static_cast<float>(scales.min[s]);
      const std::byte* quants = src + q4k::kQuantsAt + s / 2 * q4k::kSubBlock;
      for (size_t i = 0; i < q4k::kSubBlock; ++i) {
        const int q = (std::to_integer<int>(quants[i]) >> (s % 2 * 4)) & 15;
        *dst++ = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void QuantizeQ4K(const float* src, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += q4k::kBytes) {
    q4k::QuantizeBlock(FiniteBlock(src + start), dst);
  }
}

void DequantizeQ6K(const std::byte* src, float* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, src += q6k::kBytes) {
    const float d = HalfToFloat(LoadU16(src + q6k::kFactorAt));
    for (size_t i = 0; i < kSuperBlock; ++i) {
      const q6k::Place place = q6k::PlaceOf(i);
      const int low = (std::to_integer<int>(src[place.low_byte]) >> place.low_shift) & 15;
      const int upper = (std::to_integer<int>(src[place.upper_byte]) >> place.upper_shift) & 3;
      const float scale = d * static_cast<float>(static_cast<int8_t>(src[q6k::kScalesAt + i / q6k::kSubBlock]));
      *dst++ = scale * static_cast<float>((low | (upper << 4)) - q6k::kHalfRange);
    }
  }
}

void QuantizeQ6K(const float* src, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += q6k::kBytes) {
    q6k::QuantizeBlock(FiniteBlock(src + start), dst);
  }
}

}  // namespace tandem::engine
