// Internal to engine/quant: the searches by which the quantisers choose scales. All of it is plain arithmetic in
// double, so the same input gives the same file on every machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::engine {

// A run of elements that shares a scale, and the weight of each one's squared error. NaN counts as 0, an infinity as
// the largest float; a weight that is negative or not finite as 0, and all weights as 1 if their sum is 0.
struct Samples {
  static constexpr size_t kMost = 256;
  // `weight` may be null: all 1. n <= kMost.
  Samples(const float* values, const float* weights, size_t n);

  size_t n;
  std::array<double, kMost> x, weight;
};

// A scale as a half; above the largest half it saturates.
uint16_t ScaleToHalf(double scale);

// x ~ scale * q - min, with scale >= 0.
struct AffineFit {
  double scale = 0;
  double min = 0;
};
// Least squares over q in 0..max_quant and (scale, min); min >= 0 unless `any_min`.
AffineFit FitAffine(const Samples& samples, int max_quant, bool any_min);
// Sum of squared errors when every element takes its best q.
double AffineError(const Samples& samples, const AffineFit& fit, int max_quant);
// The best q of one element; 0 where the scale is 0.
int AffineQuant(double x, const AffineFit& fit, int max_quant);

// x ~ scale * q, q in low..high, low < 0 < high. The scale may be negative, so that the element of largest magnitude
// can use the longer side.
struct Range {
  int low, high;
};
double FitSymmetric(const Samples& samples, Range range);
double SymmetricError(const Samples& samples, double scale, Range range);
int SymmetricQuant(double x, double scale, Range range);

// x ~ scale * levels[q]: 16 levels within -128..127, in any order, equal ones allowed.
class LevelTable {
 public:
  explicit LevelTable(const int8_t (&levels)[16]);

  double Fit(const Samples& samples) const;
  double Error(const Samples& samples, double scale) const;
  // The index of the nearest level; of level 0 where the scale is 0.
  int Quant(double x, double scale) const;

 private:
  static constexpr int kHalf = 2048;

  const int8_t* levels_;
  double lowest_, highest_;
  double steps_;                            // places of nearest_ from one integer to the next
  std::array<uint8_t, 2 * kHalf> nearest_;  // place kHalf is 0
};

}  // namespace tandem::engine
