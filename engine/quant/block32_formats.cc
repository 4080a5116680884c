// The formats of 32 elements a block with one scale.
//
// Q4_0, 18 bytes: half d | u8 qs[16]                          x = d * (q - 8)
// Q4_1, 20 bytes: half d | half m | u8 qs[16]                 x = d * q + m
// Q5_0, 22 bytes: half d | u32 upper | u8 qs[16]              x = d * (q - 16)
// Q5_1, 24 bytes: half d | half m | u32 upper | u8 qs[16]     x = d * q + m
//   qs[i]: the low nibbles of elements i (low) and i + 16 (high). upper: bit i is the fifth bit of element i.
// Q8_0, 34 bytes: half d | i8 q[32]                           x = d * q
#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/integer_block.h"
#include "engine/quant/k_formats.h"
#include "engine/quant/scale_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kElements = 32;

// Where the fields of Q4_0, Q4_1, Q5_0 and Q5_1 lie.
template <bool kFiveBits, bool kHasMin>
struct Layout {
  static constexpr size_t kUpperAt = kHasMin ? 4 : 2;
  static constexpr size_t kQuantsAt = kUpperAt + (kFiveBits ? 4 : 0);
  static constexpr size_t kBytes = kQuantsAt + kElements / 2;
  static constexpr int kMaxQuant = kFiveBits ? 31 : 15;
  static constexpr int kOffset = kHasMin ? 0 : (kMaxQuant + 1) / 2;
};

template <typename L, bool kFiveBits>
void StoreQuants(const std::array<int, kElements>& q, std::byte* dst) {
  uint32_t upper = 0;
  for (size_t i = 0; i < kElements; ++i) upper |= static_cast<uint32_t>(q[i] >> 4) << i;
  if (kFiveBits) StoreU32(upper, dst + L::kUpperAt);
  for (size_t i = 0; i < kElements / 2; ++i) {
    dst[L::kQuantsAt + i] = static_cast<std::byte>((q[i] & 15) | (q[i + 16] & 15) << 4);
  }
}

template <bool kFiveBits, bool kHasMin>
void Decode(const std::byte* block, IntegerBlock* out) {
  using L = Layout<kFiveBits, kHasMin>;
  out->d = HalfToFloat(LoadU16(block));
  out->dmin = kHasMin ? -HalfToFloat(LoadU16(block + 2)) : 0;
  out->scale[0] = out->scale[1] = 1;
  out->min[0] = out->min[1] = kHasMin ? 1 : 0;
  const uint32_t upper = kFiveBits ? LoadU32(block + L::kUpperAt) : 0;
  for (size_t i = 0; i < kElements; ++i) {
    const int nibble = std::to_integer<int>(block[L::kQuantsAt + i % 16]) >> (i < 16 ? 0 : 4) & 15;
    out->q[i] = static_cast<int8_t>((nibble | static_cast<int>(upper >> i & 1) << 4) - L::kOffset);
  }
}

template <bool kFiveBits>
void QuantizeSymmetric(const float* src, const float* importance, std::byte* dst, size_t count) {
  using L = Layout<kFiveBits, false>;
  constexpr Range kRange = {-L::kOffset, L::kMaxQuant - L::kOffset};
  for (size_t start = 0; start < count; start += kElements, dst += L::kBytes) {
    const Samples samples(src + start, ImportanceAt(importance, start), kElements);
    const uint16_t half = ScaleToHalf(FitSymmetric(samples, kRange));
    const double d = HalfToFloat(half);
    StoreU16(half, dst);
    std::array<int, kElements> q;
    for (size_t i = 0; i < kElements; ++i) q[i] = SymmetricQuant(samples.x[i], d, kRange) + L::kOffset;
    StoreQuants<L, kFiveBits>(q, dst);
  }
}

template <bool kFiveBits>
void QuantizeAffine(const float* src, const float* importance, std::byte* dst, size_t count) {
  using L = Layout<kFiveBits, true>;
  for (size_t start = 0; start < count; start += kElements, dst += L::kBytes) {
    const Samples samples(src + start, ImportanceAt(importance, start), kElements);
    const AffineFit fit = FitAffine(samples, L::kMaxQuant, /*any_min=*/true);
    StoreU16(ScaleToHalf(fit.scale), dst);
    StoreU16(ScaleToHalf(-fit.min), dst + 2);
    const AffineFit stored{.scale = HalfToFloat(LoadU16(dst)), .min = -HalfToFloat(LoadU16(dst + 2))};
    std::array<int, kElements> q;
    for (size_t i = 0; i < kElements; ++i) q[i] = AffineQuant(samples.x[i], stored, L::kMaxQuant);
    StoreQuants<L, kFiveBits>(q, dst);
  }
}

}  // namespace

void DecodeQ4_0(const std::byte* block, IntegerBlock* out) { Decode<false, false>(block, out); }
void DecodeQ4_1(const std::byte* block, IntegerBlock* out) { Decode<false, true>(block, out); }
void DecodeQ5_0(const std::byte* block, IntegerBlock* out) { Decode<true, false>(block, out); }
void DecodeQ5_1(const std::byte* block, IntegerBlock* out) { Decode<true, true>(block, out); }

void DecodeQ8_0(const std::byte* block, IntegerBlock* out) {
  out->d = HalfToFloat(LoadU16(block));
  out->dmin = 0;
  out->scale[0] = out->scale[1] = 1;
  out->min[0] = out->min[1] = 0;
  std::memcpy(out->q.data(), block + 2, kElements);
}

void QuantizeQ4_0(const float* src, const float* importance, std::byte* dst, size_t count) {
  QuantizeSymmetric<false>(src, importance, dst, count);
}
void QuantizeQ4_1(const float* src, const float* importance, std::byte* dst, size_t count) {
  QuantizeAffine<false>(src, importance, dst, count);
}
void QuantizeQ5_0(const float* src, const float* importance, std::byte* dst, size_t count) {
  QuantizeSymmetric<true>(src, importance, dst, count);
}
void QuantizeQ5_1(const float* src, const float* importance, std::byte* dst, size_t count) {
  QuantizeAffine<true>(src, importance, dst, count);
}

// Eight bits are so fine that the scale of the largest element serves all, whatever their importance.
void QuantizeQ8_0(const float* src, const float*, std::byte* dst, size_t count) {
  constexpr Range kRange = {-127, 127};
  constexpr size_t kBytes = 2 + kElements;
  for (size_t start = 0; start < count; start += kElements, dst += kBytes) {
    const Samples samples(src + start, nullptr, kElements);
    double largest = 0;
    for (size_t i = 0; i < kElements; ++i) largest = std::max(largest, std::abs(samples.x[i]));
    // The quotients use the scale as stored, so its rounding costs nothing twice.
    const uint16_t half = ScaleToHalf(static_cast<float>(largest) / 127.0f);
    const double d = HalfToFloat(half);
    StoreU16(half, dst);
    for (size_t i = 0; i < kElements; ++i) {
      dst[2 + i] = static_cast<std::byte>(static_cast<int8_t>(SymmetricQuant(samples.x[i], d, kRange)));
    }
  }
}

}  // namespace tandem::engine
