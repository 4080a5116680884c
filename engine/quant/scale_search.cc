#include "engine/quant/scale_search.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

constexpr double kLargestHalf = 65504;
// Starting points: the range of the block spread over max_quant + step * kStepSize quants. A narrower grid clips the
// extremes and serves the rest better; about one quant either way holds the best fit of almost every Gaussian block.
constexpr int kSteps = 8;
constexpr double kStepSize = 0.125;
// The same for level tables, as a fraction of the scale.
constexpr int kLevelSteps = 6;
constexpr double kLevelStepSize = 0.04;
// From each start: choose q for the fit, then the fit for q. Both lower the error; more rounds change little.
constexpr int kRounds = 3;

// Rounds half to even; |value| < 2^51.
double Round(double value) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  return (value + kMagic) - kMagic;
}

double ClampedRound(double value, double low, double high) { return Round(std::min(std::max(value, low), high)); }

// fit.scale > 0, `inverse` = 1 / fit.scale.
double AffineLevel(double x, const AffineFit& fit, double inverse, double max_quant) {
  return ClampedRound((x + fit.min) * inverse, 0.0, max_quant);
}

// The best (scale, min) for the q that `fit` chooses. Keeps `fit` where the system has no useful solution.
AffineFit SolveAffine(const Samples& s, const AffineFit& fit, int max_quant, bool any_min) {
  const double inverse = 1 / fit.scale;
  double sum_w = 0, sum_q = 0, sum_qq = 0, sum_x = 0, sum_xq = 0;
  for (size_t i = 0; i < s.n; ++i) {
    const double q = AffineLevel(s.x[i], fit, inverse, max_quant);
    const double wq = s.weight[i] * q;
    sum_w += s.weight[i];
    sum_q += wq;
    sum_qq += wq * q;
    sum_x += s.weight[i] * s.x[i];
    sum_xq += wq * s.x[i];
  }
  const double determinant = sum_w * sum_qq - sum_q * sum_q;
  if (determinant <= 0) return fit;
  AffineFit solved;
  solved.scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
  solved.min = (solved.scale * sum_q - sum_x) / sum_w;
  if (solved.min < 0 && !any_min) solved = {.scale = sum_xq / sum_qq, .min = 0};
  return solved.scale > 0 ? solved : fit;
}

double SolveSymmetric(const Samples& s, double scale, Range range) {
  const double inverse = 1 / scale;
  double sum_qq = 0, sum_xq = 0;
  for (size_t i = 0; i < s.n; ++i) {
    const double q = ClampedRound(s.x[i] * inverse, range.low, range.high);
    sum_qq += s.weight[i] * q * q;
    sum_xq += s.weight[i] * s.x[i] * q;
  }
  return sum_qq > 0 && sum_xq != 0 ? sum_xq / sum_qq : scale;
}

// The element of largest magnitude.
double Extreme(const Samples& s) {
  double extreme = 0;
  for (size_t i = 0; i < s.n; ++i) {
    if (std::abs(s.x[i]) > std::abs(extreme)) extreme = s.x[i];
  }
  return extreme;
}

}  // namespace

Samples::Samples(const float* values, const float* weights, size_t count) : n(count) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    x[i] = std::isnan(values[i]) ? 0 : std::clamp<double>(values[i], -kLargest, kLargest);
    const bool usable = weights != nullptr && std::isfinite(weights[i]) && weights[i] > 0;
    weight[i] = usable ? weights[i] : 0;
    sum += weight[i];
  }
  if (sum == 0) std::fill_n(weight.begin(), n, 1.0);
}

uint16_t ScaleToHalf(double scale) {
  return FloatToHalf(static_cast<float>(std::clamp(scale, -kLargestHalf, kLargestHalf)));
}

int AffineQuant(double x, const AffineFit& fit, int max_quant) {
  return fit.scale <= 0 ? 0 : static_cast<int>(AffineLevel(x, fit, 1 / fit.scale, max_quant));
}

double AffineError(const Samples& s, const AffineFit& fit, int max_quant) {
  const double inverse = fit.scale <= 0 ? 0 : 1 / fit.scale;
  double error = 0;
  for (size_t i = 0; i < s.n; ++i) {
    const double q = fit.scale <= 0 ? 0 : AffineLevel(s.x[i], fit, inverse, max_quant);
    const double difference = fit.scale * q - fit.min - s.x[i];
    error += s.weight[i] * difference * difference;
  }
  return error;
}

AffineFit FitAffine(const Samples& s, int max_quant, bool any_min) {
  const auto [least, greatest] = std::minmax_element(s.x.begin(), s.x.begin() + static_cast<ptrdiff_t>(s.n));
  // Unless min may be negative, the grid cannot start above zero.
  const double low = any_min ? *least : std::min(0.0, *least);
  const double range = *greatest - low;
  AffineFit best{.scale = 0, .min = -low};
  if (range <= 0) return best;
  double best_error = std::numeric_limits<double>::infinity();
  for (int step = -kSteps; step <= kSteps; ++step) {
    AffineFit fit{.scale = range / (max_quant + step * kStepSize), .min = -low};
    for (int round = 0; round < kRounds; ++round) fit = SolveAffine(s, fit, max_quant, any_min);
    const double error = AffineError(s, fit, max_quant);
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

int SymmetricQuant(double x, double scale, Range range) {
  return scale == 0 ? 0 : static_cast<int>(ClampedRound(x * (1 / scale), range.low, range.high));
}

double SymmetricError(const Samples& s, double scale, Range range) {
  const double inverse = scale == 0 ? 0 : 1 / scale;
  double error = 0;
  for (size_t i = 0; i < s.n; ++i) {
    const double q = ClampedRound(s.x[i] * inverse, range.low, range.high);
    const double difference = scale * q - s.x[i];
    error += s.weight[i] * difference * difference;
  }
  return error;
}

double FitSymmetric(const Samples& s, Range range) {
  const double extreme = Extreme(s);
  if (extreme == 0) return 0;
  double best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  // Steps of about one quant; few quants need finer and wider ones in proportion.
  const double width = std::min(1.0, -range.low / 4.0 + 0.25);
  for (int step = -kSteps; step <= kSteps; ++step) {
    double scale = extreme / (range.low - step * kStepSize * width);
    for (int round = 0; round < kRounds; ++round) scale = SolveSymmetric(s, scale, range);
    const double error = SymmetricError(s, scale, range);
    if (error < best_error) {
      best_error = error;
      best = scale;
    }
  }
  return best;
}

LevelTable::LevelTable(const int8_t (&levels)[16]) : levels_(levels) {
  lowest_ = *std::min_element(levels, levels + 16);
  highest_ = *std::max_element(levels, levels + 16);
  steps_ = std::exp2(std::floor(std::log2(kHalf / std::max(-lowest_, highest_))));
  for (int place = 0; place < 2 * kHalf; ++place) {
    const auto distance = [&](int i) { return std::abs(steps_ * levels[i] - (place - kHalf)); };
    int best = 0;
    for (int i = 1; i < 16; ++i) {
      if (distance(i) < distance(best)) best = i;
    }
    nearest_[place] = static_cast<uint8_t>(best);
  }
}

int LevelTable::Quant(double x, double scale) const {
  const double inverse = scale == 0 ? 0 : steps_ / scale;
  return nearest_[static_cast<int>(ClampedRound(x * inverse, steps_ * lowest_, steps_ * highest_)) + kHalf];
}

double LevelTable::Error(const Samples& s, double scale) const {
  double error = 0;
  for (size_t i = 0; i < s.n; ++i) {
    const double difference = scale * levels_[Quant(s.x[i], scale)] - s.x[i];
    error += s.weight[i] * difference * difference;
  }
  return error;
}

double LevelTable::Fit(const Samples& s) const {
  const double extreme = Extreme(s);
  if (extreme == 0) return 0;
  double best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  // The table is lopsided: the extreme may go to either end.
  for (const double end : {lowest_, highest_}) {
    for (int step = -kLevelSteps; step <= kLevelSteps; ++step) {
      double scale = extreme / end * (1 + step * kLevelStepSize);
      for (int round = 0; round < kRounds; ++round) {
        double sum_ll = 0, sum_xl = 0;
        for (size_t i = 0; i < s.n; ++i) {
          const double level = levels_[Quant(s.x[i], scale)];
          sum_ll += s.weight[i] * level * level;
          sum_xl += s.weight[i] * s.x[i] * level;
        }
        if (sum_ll <= 0 || sum_xl == 0) break;
        scale = sum_xl / sum_ll;
      }
      const double error = Error(s, scale);
      if (error < best_error) {
        best_error = error;
        best = scale;
      }
    }
  }
  return best;
}

}  // namespace tandem::engine
