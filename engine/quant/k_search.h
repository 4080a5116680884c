// Internal to engine/quant: the searches by which the quantisers choose scales. All of it is plain arithmetic in
// double, so the same input gives the same file on every machine.
#pragma once

#include <cstdint>
#include <span>

namespace tandem::engine {

// What a quantiser takes a value for: NaN as 0, infinities as the largest float.
float Finite(float value);
// A scale as a half; above the largest half it saturates.
uint16_t ScaleToHalf(double scale);

// x ~ scale * q - min, with scale >= 0 and min >= 0.
struct AffineFit {
  double scale = 0;
  double min = 0;
};
// Least squares over q in 0..max_quant and (scale, min).
AffineFit FitAffine(std::span<const float> x, int max_quant);
// Sum of squared errors when every element takes its best q.
double AffineError(std::span<const float> x, const AffineFit& fit, int max_quant);
// The best q of one element; 0 where the scale is 0.
int AffineQuant(float x, const AffineFit& fit, int max_quant);

// x ~ scale * q, q in -half_range .. half_range - 1; the scale may be negative, so that the element of largest
// magnitude can use the longer side. Least squares over q and scale.
double FitSymmetric(std::span<const float> x, int half_range);
double SymmetricError(std::span<const float> x, double scale, int half_range);
int SymmetricQuant(float x, double scale, int half_range);

}  // namespace tandem::engine
