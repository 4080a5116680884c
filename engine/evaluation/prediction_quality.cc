#include "engine/evaluation/prediction_quality.h"

#include <algorithm>
#include <cmath>

namespace tandem::engine {
namespace {

struct MeanAndError {
  double mean = 0, error = 0;
};
MeanAndError MeanOf(std::span<const double> values) {
  const double count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() > 1 ? std::sqrt(squares / (count - 1) / count) : 0};
}

}  // namespace

void LogSoftmax(std::span<const float> logits, std::span<double> out) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double shift = largest + std::log(sum);
  for (size_t i = 0; i < logits.size(); ++i) out[i] = logits[i] - shift;
}

int32_t LargestIndex(std::span<const float> values) {
  return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

double Divergence(std::span<const double> base, std::span<const double> model) {
  double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) sum += std::exp(base[i]) * (base[i] - model[i]);
  return sum;
}

Perplexity PerplexityOf(std::span<const double> negative_log_probs) {
  if (negative_log_probs.empty()) return {};
  const MeanAndError nll = MeanOf(negative_log_probs);
  const double value = std::exp(nll.mean);
  return {value, value * nll.error};
}

Distribution DistributionOf(std::vector<double> values) {
  if (values.empty()) return {};
  const MeanAndError mean = MeanOf(values);
  std::sort(values.begin(), values.end());
  const auto quantile = [&values](double share) {
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  return {.mean = mean.mean,
          .standard_error = mean.error,
          .median = quantile(0.5),
          .p90 = quantile(0.9),
          .p99 = quantile(0.99),
          .p999 = quantile(0.999),
          .largest = values.back()};
}

}  // namespace tandem::engine
