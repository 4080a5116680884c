#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

// The compiler's own half; GCC 12 knows it by two names.
#ifdef __aarch64__
using NativeHalf = __fp16;
#else
using NativeHalf = _Float16;
#endif

constexpr uint16_t kInfinity = 0x7c00;

// The value of a finite half from its definition.
double ValueOf(uint16_t half) {
  const int exponent = (half >> 10) & 0x1f;
  const int mantissa = half & 0x3ff;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

// The half nearest to a non-negative value, by search among all of them. Of two equally near ones the even one: its
// index is its bit pattern, so the even mantissa is the even index. 65536, one step past the largest, is infinity.
uint16_t NearestByDefinition(double value) {
  static const std::vector<double> kAll = [] {
    std::vector<double> all;
    for (uint16_t half = 0; half < kInfinity; ++half) all.push_back(ValueOf(half));
    all.push_back(65536);
    return all;
  }();
  if (value >= kAll.back()) return kInfinity;
  const size_t above = std::upper_bound(kAll.begin(), kAll.end(), value) - kAll.begin();
  const size_t below = above - 1;
  const double up = kAll[above] - value, down = value - kAll[below];
  return static_cast<uint16_t>(up < down || (up == down && above % 2 == 0) ? above : below);
}

void ExpectConverts(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  ASSERT_EQ(FloatToHalf(value), sign | NearestByDefinition(std::abs(static_cast<double>(value)))) << value;
#if defined(__GNUC__) && !defined(__clang__) && defined(__FLT16_MAX__)
  ASSERT_EQ(FloatToHalf(value), std::bit_cast<uint16_t>(static_cast<NativeHalf>(value))) << value;
#endif
}

TEST(HalfTest, EveryFiniteHalfHasItsValue) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    if ((half & kInfinity) == kInfinity) continue;
    ASSERT_EQ(HalfToFloat(half), ValueOf(half)) << bits;
    ASSERT_EQ(std::signbit(HalfToFloat(half)), (half & 0x8000) != 0) << bits;
  }
}

TEST(HalfTest, EveryHalfRoundTrips) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const bool nan = (half & kInfinity) == kInfinity && (half & 0x3ff) != 0;
    ASSERT_EQ(std::isnan(HalfToFloat(half)), nan);
    ASSERT_EQ(FloatToHalf(HalfToFloat(half)), nan ? half | 0x200 : half) << bits;  // NaNs become quiet
  }
  EXPECT_EQ(HalfToFloat(kInfinity), std::numeric_limits<float>::infinity());
  EXPECT_EQ(HalfToFloat(0xfc00), -std::numeric_limits<float>::infinity());
}

TEST(HalfTest, TiesAndTheirNeighboursRoundToNearestEven) {
  for (uint16_t half = 0; half < kInfinity; ++half) {
    const double next = half + 1 == kInfinity ? 65536 : ValueOf(half + 1);
    const float tie = static_cast<float>((ValueOf(half) + next) / 2);  // exact: one bit more than a half has
    for (const float value : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e9f)}) {
      ExpectConverts(value);
      ExpectConverts(-value);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(HalfTest, FloatsOfAllMagnitudesRoundToNearestEven) {
  constexpr uint32_t kStep = 7919;  // a prime: about 540,000 floats, with every exponent and varied mantissas
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += kStep) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    ExpectConverts(value);
    if (HasFatalFailure()) return;
  }
}

TEST(HalfTest, SpecialFloats) {
  EXPECT_EQ(FloatToHalf(65504.0f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), kInfinity);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0);  // tie between 0 and the smallest subnormal
  EXPECT_EQ(FloatToHalf(0x1.000002p-25f), 1);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
}

TEST(HalfTest, NanKeepsSignAndUpperPayloadAndIsQuiet) {
  EXPECT_EQ(FloatToHalf(std::bit_cast<float>(0x7f800001u)), 0x7e00);
  EXPECT_EQ(FloatToHalf(std::bit_cast<float>(0xff802000u)), 0xfe01);
  EXPECT_EQ(FloatToHalf(std::bit_cast<float>(0x7fffffffu)), 0x7fff);
}

}  // namespace
}  // namespace tandem::engine
