#include "engine/cpu/canonical_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace tandem::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Promised in canonical_math.h.
constexpr long double kExpBound = 1.2e-7L;
constexpr long double kDoubleBound = 1e-14L;

long double RelativeError(long double got, long double want) { return std::fabs(got - want) / std::fabs(want); }

TEST(CanonicalExpTest, IsWithinItsBoundEverywhere) {
  long double worst = 0;
  // Every 997th float of either sign: about two million values, all exponents.
  for (uint32_t bits = 0; bits < 0x42b20000; bits += 997) {
    for (const float x : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)}) {
      if (x < -87.0f || x > 88.72283f) continue;
      worst = std::max(worst, RelativeError(CanonicalExp(x), std::exp(static_cast<long double>(x))));
    }
  }
  EXPECT_LT(worst, kExpBound) << static_cast<double>(worst);
  EXPECT_GT(worst, 1e-8L);
}

TEST(CanonicalExpTest, EdgesAreExact) {
  EXPECT_EQ(CanonicalExp(0.0f), 1.0f);
  EXPECT_EQ(CanonicalExp(-0.0f), 1.0f);
  EXPECT_EQ(CanonicalExp(-kInfinity), 0.0f);
  EXPECT_EQ(CanonicalExp(std::nextafter(-87.0f, -100.0f)), 0.0f);
  EXPECT_GT(CanonicalExp(-87.0f), std::numeric_limits<float>::min());
  EXPECT_LT(CanonicalExp(88.72283f), kInfinity);
  EXPECT_GT(CanonicalExp(88.72283f), 3.4e38f);
  EXPECT_EQ(CanonicalExp(std::nextafter(88.72283f, 100.0f)), kInfinity);
  EXPECT_EQ(CanonicalExp(kInfinity), kInfinity);
  EXPECT_EQ(CanonicalExp(std::numeric_limits<float>::quiet_NaN()), kInfinity);
}

// The bits on every machine: a change of the polynomial changes every answer of every model, so it must be noticed.
TEST(CanonicalExpTest, BitsAreFixed) {
  uint64_t hash = 1469598103934665603u;
  for (int i = -8700; i <= 8872; ++i) {
    hash = (hash ^ std::bit_cast<uint32_t>(CanonicalExp(static_cast<float>(i) / 100.0f))) * 1099511628211u;
  }
  EXPECT_EQ(hash, 12520684192379413606u);
}

TEST(CanonicalMathTest, SinAndCosAreWithinTheirBound) {
  std::mt19937_64 rng(1);
  std::uniform_real_distribution<double> exponent(-30, 20);
  long double worst_sin = 0;
  long double worst_cos = 0;
  for (int i = 0; i < 300000; ++i) {
    const double magnitude = std::exp2(exponent(rng));
    const double x = i % 2 == 0 ? magnitude : -magnitude;
    worst_sin = std::max(worst_sin, RelativeError(CanonicalSin(x), std::sin(static_cast<long double>(x))));
    worst_cos = std::max(worst_cos, RelativeError(CanonicalCos(x), std::cos(static_cast<long double>(x))));
  }
  EXPECT_LT(worst_sin, kDoubleBound) << static_cast<double>(worst_sin);
  EXPECT_LT(worst_cos, kDoubleBound) << static_cast<double>(worst_cos);
}

// Integers are the usual arguments (positions), and multiples of pi / 2 the hard ones.
TEST(CanonicalMathTest, SinAndCosHoldNearTheirZerosAndAtIntegers) {
  const double half_pi = std::acos(0.0);
  for (int n = 1; n < 600000; n += 17) {
    for (const double x : {n * half_pi, static_cast<double>(n), -n * half_pi}) {
      ASSERT_LT(RelativeError(CanonicalSin(x), std::sin(static_cast<long double>(x))), kDoubleBound) << x;
      ASSERT_LT(RelativeError(CanonicalCos(x), std::cos(static_cast<long double>(x))), kDoubleBound) << x;
    }
  }
  EXPECT_EQ(CanonicalSin(0.0), 0.0);
  EXPECT_EQ(CanonicalCos(0.0), 1.0);
}

TEST(CanonicalMathTest, LogIsWithinItsBound) {
  std::mt19937_64 rng(2);
  std::uniform_real_distribution<double> exponent(-1000, 1000);
  std::uniform_real_distribution<double> near_one(0.5, 2.0);
  long double worst = 0;
  for (int i = 0; i < 300000; ++i) {
    const double x = i % 2 == 0 ? std::exp2(exponent(rng)) : near_one(rng);
    worst = std::max(worst, RelativeError(CanonicalLog(x), std::log(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, kDoubleBound) << static_cast<double>(worst);
  EXPECT_EQ(CanonicalLog(1.0), 0.0);
}

TEST(CanonicalMathTest, PowIsWithinItsBoundForRopeFrequencies) {
  long double worst = 0;
  for (const double base : {10000.0, 500000.0, 1e6, 1e7, 1.5, 0.1}) {
    for (const int dims : {8, 64, 80, 96, 128, 256}) {
      for (int i = 0; i < dims; i += 2) {
        const double exponent = -static_cast<double>(i) / dims;
        const long double want = std::pow(static_cast<long double>(base), static_cast<long double>(exponent));
        worst = std::max(worst, RelativeError(CanonicalPow(base, exponent), want));
      }
    }
  }
  EXPECT_LT(worst, kDoubleBound) << static_cast<double>(worst);
  EXPECT_EQ(CanonicalPow(10000.0, 0.0), 1.0);
}

}  // namespace
}  // namespace tandem::engine
