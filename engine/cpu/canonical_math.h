// The elementary functions of canonical arithmetic: fixed sequences of IEEE operations, so the same bits on every
// machine and with every C library. All are pure and thread-safe.
#pragma once

namespace tandem::engine {

// e^x in single precision, the one inside softmax and SiLU; also used by sampling. Relative error below 1.2e-7 for
// -87 <= x <= 88.72283; 0 below (exp(-inf) included), infinity above and for NaN.
float CanonicalExp(float x);

// Double precision without FMA, for rope tables. Relative error below 1e-14 in the ranges given; no guarantee outside
// but the same bits everywhere.
double CanonicalPow(double base, double exponent);  // base > 0 and normal, |exponent * log(base)| <= 20
double CanonicalSin(double x);                      // |x| <= 2^20
double CanonicalCos(double x);                      // |x| <= 2^20
double CanonicalLog(double x);                      // x > 0 and normal
// 2 / sqrt(pi) times the integral of exp(-t^2) from x on. Relative error below 1e-11 for x <= 2, absolute error below
// 1e-15.
double CanonicalErfc(double x);

}  // namespace tandem::engine
