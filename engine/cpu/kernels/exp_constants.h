// Constants of the canonical single precision exp, shared by all kernel sets. Plain values only (see kernel_args.h).
//
//   n = round(x * log2 e), by adding and subtracting 1.5 * 2^23 (round half to even, n also in the low bits of the sum)
//   r = x - n * ln 2 in two FMAs;  exp(r) = 1 + (r + r^2 * P(r)), Horner by FMA;  exponent raised by n with integers
//
// P interpolates (exp(r) - 1 - r) / r^2 at the five Chebyshev nodes of |r| <= 1.0005 * ln 2 / 2, computed with 60
// decimal digits and rounded to float: 1.06e-8 relative error of exp(r) before rounding. Measured over every 97th float
// of the range: relative error at most 8.7e-8 (canonical_math_test asserts 1.2e-7).
#pragma once

namespace tandem::engine {

inline constexpr float kExpLog2E = 0x1.715476p+0f;
inline constexpr float kExpMagic = 12582912.0f;  // 1.5 * 2^23
inline constexpr float kExpLn2Hi = 0x1.62e43p-1f;
inline constexpr float kExpLn2Lo = -0x1.05c61p-29f;
inline constexpr float kExpP0 = 0.5f;
inline constexpr float kExpP1 = 0x1.5554dcp-3f;
inline constexpr float kExpP2 = 0x1.55551ap-5f;
inline constexpr float kExpP3 = 0x1.120ba2p-7f;
inline constexpr float kExpP4 = 0x1.6d113cp-10f;
// Below: 0 (the last normal results are skipped, so that no sub-normal arises). Above, and for NaN: infinity.
inline constexpr float kExpLowest = -87.0f;
inline constexpr float kExpHighest = 88.72283f;

}  // namespace tandem::engine
