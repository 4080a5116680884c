#include "engine/cpu/canonical_math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "engine/cpu/kernels/exp_constants.h"

namespace tandem::engine {
namespace {

// Adding and subtracting it rounds a double of magnitude below 2^51 to the nearest integer, half to even.
constexpr double kRound = 0x1.8p52;

constexpr double kLn2Hi = 0x1.62e42feep-1;  // 32 bits, so n * kLn2Hi is exact
constexpr double kLn2Lo = 0x1.a39ef35793c76p-33;
constexpr double kLog2E = 0x1.71547652b82fep+0;

// pi / 2 in three parts; the first two have 33 bits, so products with |n| < 2^20 are exact.
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
constexpr double kHalfPi1 = 0x1.921fb544p+0;
constexpr double kHalfPi2 = 0x1.0b4611a6p-34;
constexpr double kHalfPi3 = 0x1.3198a2e037073p-69;

// sin and cos of |r| <= pi / 4 by their Taylor series; the first term left out is below 2^-60 of the result.
double SinReduced(double r) {
  const double z = r * r;
  double p = 1.0 / 355687428096000.0;  // 1 / 17!
  p = p * z - 1.0 / 1307674368000.0;
  p = p * z + 1.0 / 6227020800.0;
  p = p * z - 1.0 / 39916800.0;
  p = p * z + 1.0 / 362880.0;
  p = p * z - 1.0 / 5040.0;
  p = p * z + 1.0 / 120.0;
  p = p * z - 1.0 / 6.0;
  return r + r * (z * p);
}

double CosReduced(double r) {
  const double z = r * r;
  double p = 1.0 / 20922789888000.0;  // 1 / 16!
  p = p * z - 1.0 / 87178291200.0;
  p = p * z + 1.0 / 479001600.0;
  p = p * z - 1.0 / 3628800.0;
  p = p * z + 1.0 / 40320.0;
  p = p * z - 1.0 / 720.0;
  p = p * z + 1.0 / 24.0;
  return 1.0 - (0.5 * z - z * z * p);
}

// sin(x + quarter_turns * pi / 2).
double SinShifted(double x, uint64_t quarter_turns) {
  const double shifted = x * kTwoOverPi + kRound;
  const double n = shifted - kRound;
  const double r = ((x - n * kHalfPi1) - n * kHalfPi2) - n * kHalfPi3;
  // The low bits of `shifted` are those of n.
  const uint64_t quadrant = std::bit_cast<uint64_t>(shifted) + quarter_turns;
  switch (quadrant & 3) {
    case 0:
      return SinReduced(r);
    case 1:
      return CosReduced(r);
    case 2:
      return -SinReduced(r);
    default:
      return -CosReduced(r);
  }
}

// e^y for |y| <= 700 (clamped there): Taylor series to r^14 on |r| <= ln 2 / 2.
double ExpDouble(double y) {
  y = y > 700.0 ? 700.0 : y < -700.0 ? -700.0 : y;
  const double shifted = y * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (y - n * kLn2Hi) - n * kLn2Lo;
  double p = 1.0 / 87178291200.0;  // 1 / 14!
  p = p * r + 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  const double e = 1.0 + (r + r * r * p);
  return std::bit_cast<double>(std::bit_cast<uint64_t>(e) + (std::bit_cast<uint64_t>(shifted) << 52));
}

}  // namespace

float CanonicalExp(float x) {
  if (x < kExpLowest) return 0.0f;
  if (!(x <= kExpHighest)) return std::numeric_limits<float>::infinity();
  const float shifted = std::fma(x, kExpLog2E, kExpMagic);
  const float n = shifted - kExpMagic;
  float r = std::fma(n, -kExpLn2Hi, x);
  r = std::fma(n, -kExpLn2Lo, r);
  float p = std::fma(kExpP4, r, kExpP3);
  p = std::fma(p, r, kExpP2);
  p = std::fma(p, r, kExpP1);
  p = std::fma(p, r, kExpP0);
  const float e = std::fma(p, r * r, r) + 1.0f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(e) + (std::bit_cast<uint32_t>(shifted) << 23));
}

double CanonicalLog(double x) {
  // x = 2^e * m with m in [sqrt(1/2), sqrt(2)).
  uint64_t bits = std::bit_cast<uint64_t>(x);
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const int64_t exponent = static_cast<int64_t>(bits - kSqrtHalf) >> 52;
  const double m = std::bit_cast<double>(bits - (static_cast<uint64_t>(exponent) << 52));
  // log m = 2 atanh f, f = (m - 1) / (m + 1), |f| < 0.172: Taylor series to f^23.
  const double f = (m - 1.0) / (m + 1.0);
  const double z = f * f;
  double p = 2.0 / 23.0;
  p = p * z + 2.0 / 21.0;
  p = p * z + 2.0 / 19.0;
  p = p * z + 2.0 / 17.0;
  p = p * z + 2.0 / 15.0;
  p = p * z + 2.0 / 13.0;
  p = p * z + 2.0 / 11.0;
  p = p * z + 2.0 / 9.0;
  p = p * z + 2.0 / 7.0;
  p = p * z + 2.0 / 5.0;
  p = p * z + 2.0 / 3.0;
  const double log_m = 2.0 * f + f * (z * p);
  const double e = static_cast<double>(exponent);
  return e * kLn2Hi + (log_m + e * kLn2Lo);
}

// erf x = 2 / sqrt(pi) x exp(-x^2) sum of (2 x^2)^n / (1 3 5 ... (2 n + 1)), whose terms are all positive.
double CanonicalErfc(double x) {
  constexpr double kTwoOverSqrtPi = 1.12837916709551257390;
  if (!(x < 6.0)) return 0.0;
  if (x < -6.0) return 2.0;
  const double z = 2.0 * (x * x);
  double term = 1.0, sum = 1.0;
  for (double odd = 3.0; term > 1e-17 * sum; odd += 2.0) {
    term = term * z / odd;
    sum += term;
  }
  return 1.0 - kTwoOverSqrtPi * x * ExpDouble(-(x * x)) * sum;
}

double CanonicalPow(double base, double exponent) { return ExpDouble(exponent * CanonicalLog(base)); }
double CanonicalSin(double x) { return SinShifted(x, 0); }
double CanonicalCos(double x) { return SinShifted(x, 1); }

}  // namespace tandem::engine
