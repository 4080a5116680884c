// The super-block formats with a scale and a min for each sub-block: Q2_K, Q4_K and Q5_K.
//
//   x = (d * scale[s]) * q - (dmin * min[s])
//
// Q2_K, 84 bytes: 16 bytes, scale[s] in the low and min[s] in the high nibble | 64 bytes of bit pairs | half d |
//   half dmin.  16 sub-blocks of 16. Run r of half h (k_formats.h), element l: byte 32 h + l, at bit 2r.
// Q4_K, 144 bytes: half d | half dmin | 12 bytes of 6-bit scales and mins | 128 bytes of nibbles.  8 sub-blocks of 32.
//   The 12 bytes, for s in 0..3:  byte s      = scale[s]            | upper two bits of scale[s + 4] << 6
//                                 byte s + 4  = min[s]              | upper two bits of min[s + 4]   << 6
//                                 byte s + 8  = low nibble of scale[s + 4] | low nibble of min[s + 4] << 4
//   Nibbles: bytes 32p .. 32p+31 hold sub-block 2p in the low and sub-block 2p + 1 in the high half.
// Q5_K, 176 bytes: Q4_K with 32 bytes before the nibbles: bit s of byte l is the fifth bit of element l of sub-block s.
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

template <size_t kSubBlocks>
struct Scales {
  std::array<int, kSubBlocks> scale;
  std::array<int, kSubBlocks> min;
};

int Byte(const std::byte* p) { return std::to_integer<int>(*p); }

struct Q2K {
  static constexpr size_t kBytes = 84, kQuantsAt = 16, kFactorAt = 80, kSubBlocks = 16;
  static constexpr int kMaxQuant = 3, kMaxScale = 15;

  static Scales<kSubBlocks> LoadScales(const std::byte* block) {
    Scales<kSubBlocks> result;
    for (size_t s = 0; s < kSubBlocks; ++s) {
      result.scale[s] = Byte(block + s) & 15;
      result.min[s] = Byte(block + s) >> 4;
    }
    return result;
  }
  static void StoreScales(const Scales<kSubBlocks>& scales, std::byte* block) {
    for (size_t s = 0; s < kSubBlocks; ++s) block[s] = static_cast<std::byte>(scales.scale[s] | scales.min[s] << 4);
  }
  static int LoadQuant(const std::byte* block, size_t i) {
    const RunPlace place = PlaceInRun(i);
    return Byte(block + kQuantsAt + 32 * place.half + place.at) >> (2 * place.run) & 3;
  }
  static void AddQuant(int q, size_t i, std::byte* block) {
    const RunPlace place = PlaceInRun(i);
    block[kQuantsAt + 32 * place.half + place.at] |= static_cast<std::byte>(q << (2 * place.run));
  }
};

template <bool kFiveBits>
struct Q4Or5K {
  static constexpr size_t kScalesAt = 4, kUpperAt = 16, kQuantsAt = kFiveBits ? 48 : 16, kFactorAt = 0, kSubBlocks = 8;
  static constexpr size_t kBytes = kQuantsAt + 128;
  static constexpr int kMaxQuant = kFiveBits ? 31 : 15, kMaxScale = 63;

  static Scales<kSubBlocks> LoadScales(const std::byte* block) {
    const std::byte* packed = block + kScalesAt;
    Scales<kSubBlocks> result;
    for (size_t s = 0; s < 4; ++s) {
      const int a = Byte(packed + s), b = Byte(packed + s + 4), c = Byte(packed + s + 8);
      result.scale[s] = a & 63;
      result.min[s] = b & 63;
      result.scale[s + 4] = (c & 15) | ((a >> 6) << 4);
      result.min[s + 4] = (c >> 4) | ((b >> 6) << 4);
    }
    return result;
  }
  static void StoreScales(const Scales<kSubBlocks>& scales, std::byte* block) {
    std::byte* packed = block + kScalesAt;
    for (size_t s = 0; s < 4; ++s) {
      packed[s] = static_cast<std::byte>(scales.scale[s] | ((scales.scale[s + 4] >> 4) << 6));
      packed[s + 4] = static_cast<std::byte>(scales.min[s] | ((scales.min[s + 4] >> 4) << 6));
      packed[s + 8] = static_cast<std::byte>((scales.scale[s + 4] & 15) | ((scales.min[s + 4] & 15) << 4));
    }
  }
  static int LoadQuant(const std::byte* block, size_t i) {
    const size_t s = i / 32, at = i % 32;
    const int nibble = Byte(block + kQuantsAt + 32 * (s / 2) + at) >> (4 * (s % 2)) & 15;
    return kFiveBits ? nibble | (Byte(block + kUpperAt + at) >> s & 1) << 4 : nibble;
  }
  static void AddQuant(int q, size_t i, std::byte* block) {
    const size_t s = i / 32, at = i % 32;
    block[kQuantsAt + 32 * (s / 2) + at] |= static_cast<std::byte>((q & 15) << (4 * (s % 2)));
    if (kFiveBits) block[kUpperAt + at] |= static_cast<std::byte>(q >> 4 << s);
  }
};

template <typename F>
void Decode(const std::byte* block, IntegerBlock* out) {
  constexpr size_t kRepeat = 16 / F::kSubBlocks;
  out->d = HalfToFloat(LoadU16(block + F::kFactorAt));
  out->dmin = HalfToFloat(LoadU16(block + F::kFactorAt + 2));
  const Scales<F::kSubBlocks> scales = F::LoadScales(block);
  for (size_t s = 0; s < 16; ++s) {
    out->scale[s] = static_cast<int16_t>(scales.scale[s / kRepeat]);
    out->min[s] = static_cast<int16_t>(scales.min[s / kRepeat]);
  }
  for (size_t i = 0; i < kSuperBlock; ++i) out->q[i] = static_cast<int8_t>(F::LoadQuant(block, i));
}

// The pair of integers in reach of the fitted ones (each rounded, or one off) with the least error: rounding a scale is
// often better repaired by the min than by the nearest value.
template <typename F>
void ChooseIntegers(const Samples& samples, const AffineFit& fit, double d, double dmin, int* scale, int* min) {
  const auto nearest = [](double value, double unit) {
    return unit > 0 ? static_cast<int>(std::clamp(std::nearbyint(value / unit), 0.0, double{F::kMaxScale})) : 0;
  };
  const int scale0 = nearest(fit.scale, d);
  const int min0 = nearest(fit.min, dmin);
  double best_error = -1;
  for (int s = std::max(0, scale0 - 1); s <= std::min(F::kMaxScale, scale0 + 1); ++s) {
    for (int m = std::max(0, min0 - 1); m <= std::min(F::kMaxScale, min0 + 1); ++m) {
      const double error = AffineError(samples, {.scale = d * s, .min = dmin * m}, F::kMaxQuant);
      if (best_error < 0 || error < best_error) {
        best_error = error;
        *scale = s;
        *min = m;
      }
    }
  }
}

template <typename F>
void QuantizeBlock(const float* src, const float* importance, std::byte* dst) {
  constexpr size_t kSubBlock = kSuperBlock / F::kSubBlocks;
  std::array<AffineFit, F::kSubBlocks> fits;
  double largest_scale = 0, largest_min = 0;
  const auto samples_of = [&](size_t s) {
    return Samples(src + s * kSubBlock, ImportanceAt(importance, s * kSubBlock), kSubBlock);
  };
  for (size_t s = 0; s < F::kSubBlocks; ++s) {
    fits[s] = FitAffine(samples_of(s), F::kMaxQuant, /*any_min=*/false);
    largest_scale = std::max(largest_scale, fits[s].scale);
    largest_min = std::max(largest_min, fits[s].min);
  }
  std::fill(dst, dst + F::kBytes, std::byte{0});
  StoreU16(ScaleToHalf(largest_scale / F::kMaxScale), dst + F::kFactorAt);
  StoreU16(ScaleToHalf(largest_min / F::kMaxScale), dst + F::kFactorAt + 2);
  const double d = HalfToFloat(LoadU16(dst + F::kFactorAt));
  const double dmin = HalfToFloat(LoadU16(dst + F::kFactorAt + 2));

  Scales<F::kSubBlocks> scales;
  for (size_t s = 0; s < F::kSubBlocks; ++s) {
    const Samples samples = samples_of(s);
    ChooseIntegers<F>(samples, fits[s], d, dmin, &scales.scale[s], &scales.min[s]);
    const AffineFit stored{.scale = d * scales.scale[s], .min = dmin * scales.min[s]};
    for (size_t i = 0; i < kSubBlock; ++i) {
      F::AddQuant(AffineQuant(samples.x[i], stored, F::kMaxQuant), s * kSubBlock + i, dst);
    }
  }
  F::StoreScales(scales, dst);
}

template <typename F>
void Quantize(const float* src, const float* importance, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kSuperBlock, dst += F::kBytes) {
    QuantizeBlock<F>(src + start, ImportanceAt(importance, start), dst);
  }
}

}  // namespace

void DecodeQ2K(const std::byte* block, IntegerBlock* out) { Decode<Q2K>(block, out); }
void DecodeQ4K(const std::byte* block, IntegerBlock* out) { Decode<Q4Or5K<false>>(block, out); }
void DecodeQ5K(const std::byte* block, IntegerBlock* out) { Decode<Q4Or5K<true>>(block, out); }

void QuantizeQ2K(const float* src, const float* importance, std::byte* dst, size_t count) {
  Quantize<Q2K>(src, importance, dst, count);
}
void QuantizeQ4K(const float* src, const float* importance, std::byte* dst, size_t count) {
  Quantize<Q4Or5K<false>>(src, importance, dst, count);
}
void QuantizeQ5K(const float* src, const float* importance, std::byte* dst, size_t count) {
  Quantize<Q4Or5K<true>>(src, importance, dst, count);
}

}  // namespace tandem::engine
