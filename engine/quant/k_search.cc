#include "engine/quant/k_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

constexpr double kLargestHalf = 65504;
// Starting points: the range of the block spread over max_quant + step * kStepSize quants. A narrower grid clips the
// extremes and serves the rest better; about one quant either way holds the best fit of almost every Gaussian block.
constexpr int kSteps = 8;
constexpr double kStepSize = 0.125;
// From each start: choose q for the fit, then the fit for q. Both lower the error; more rounds change little.
constexpr int kRounds = 3;

// The best (scale, min) for the q that `fit` chooses. Keeps `fit` where the system has no useful solution.
AffineFit SolveAffine(std::span<const float> x, const AffineFit& fit, int max_quant) {
  double sum_q = 0, sum_qq = 0, sum_x = 0, sum_xq = 0;
  for (const float value : x) {
    const double q = AffineQuant(value, fit, max_quant);
    sum_q += q;
    sum_qq += q * q;
    sum_x += value;
    sum_xq += value * q;
  }
  const double n = static_cast<double>(x.size());
  const double determinant = n * sum_qq - sum_q * sum_q;
  if (determinant <= 0) return fit;
  AffineFit solved;
  solved.scale = (n * sum_xq - sum_x * sum_q) / determinant;
  solved.min = (solved.scale * sum_q - sum_x) / n;
  if (solved.min < 0) solved = {.scale = sum_xq / sum_qq, .min = 0};
  return solved.scale > 0 ? solved : fit;
}

double SolveSymmetric(std::span<const float> x, double scale, int half_range) {
  double sum_qq = 0, sum_xq = 0;
  for (const float value : x) {
    const double q = SymmetricQuant(value, scale, half_range);
    sum_qq += q * q;
    sum_xq += value * q;
  }
  return sum_qq > 0 ? sum_xq / sum_qq : scale;
}

}  // namespace

float Finite(float value) {
  if (std::isnan(value)) return 0;
  return std::clamp(value, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
}

uint16_t ScaleToHalf(double scale) {
  return FloatToHalf(static_cast<float>(std::clamp(scale, -kLargestHalf, kLargestHalf)));
}

int AffineQuant(float x, const AffineFit& fit, int max_quant) {
  if (fit.scale <= 0) return 0;
  return static_cast<int>(std::clamp(std::nearbyint((x + fit.min) / fit.scale), 0.0, static_cast<double>(max_quant)));
}

double AffineError(std::span<const float> x, const AffineFit& fit, int max_quant) {
  double error = 0;
  for (const float value : x) {
    const double difference = fit.scale * AffineQuant(value, fit, max_quant) - fit.min - value;
    error += difference * difference;
  }
  return error;
}

AffineFit FitAffine(std::span<const float> x, int max_quant) {
  const auto [least, greatest] = std::minmax_element(x.begin(), x.end());
  const double low = std::min(0.0f, *least);  // min is stored unsigned: the grid cannot start above zero
  const double range = *greatest - low;
  AffineFit best{.scale = 0, .min = -low};
  if (range <= 0) return best;
  double best_error = std::numeric_limits<double>::infinity();
  for (int step = -kSteps; step <= kSteps; ++step) {
    AffineFit fit{.scale = range / (max_quant + step * kStepSize), .min = -low};
    for (int round = 0; round < kRounds; ++round) fit = SolveAffine(x, fit, max_quant);
    const double error = AffineError(x, fit, max_quant);
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

int SymmetricQuant(float x, double scale, int half_range) {
  if (scale == 0) return 0;
  const double limit = half_range;
  return static_cast<int>(std::clamp(std::nearbyint(x / scale), -limit, limit - 1));
}

double SymmetricError(std::span<const float> x, double scale, int half_range) {
  double error = 0;
  for (const float value : x) {
    const double difference = scale * SymmetricQuant(value, scale, half_range) - value;
    error += difference * difference;
  }
  return error;
}

double FitSymmetric(std::span<const float> x, int half_range) {
  double extreme = 0;
  for (const float value : x) {
    if (std::abs(value) > std::abs(extreme)) extreme = value;
  }
  if (extreme == 0) return 0;
  double best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  for (int step = -kSteps; step <= kSteps; ++step) {
    double scale = -extreme / (half_range + step * kStepSize);
    for (int round = 0; round < kRounds; ++round) scale = SolveSymmetric(x, scale, half_range);
    const double error = SymmetricError(x, scale, half_range);
    if (error < best_error) {
      best_error = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace tandem::engine
