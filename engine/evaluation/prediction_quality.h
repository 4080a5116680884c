// Numbers about predictions: log-probabilities, perplexity, and how far two models' predictions are apart.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::engine {

// log of the softmax of `logits`, in double precision; [logits.size()].
void LogSoftmax(std::span<const float> logits, std::span<double> out);
// Index of the largest value, the first of equals.
int32_t LargestIndex(std::span<const float> values);

// Kullback-Leibler divergence, in nats, of `model` from `base`, both log-probabilities of the same tokens: 0 if they
// are equal, else positive but for rounding.
double Divergence(std::span<const double> base, std::span<const double> model);

// Of the negative log-probabilities (nats) of a text's tokens.
struct Perplexity {
  double value = 0;           // exp of the mean
  double standard_error = 0;  // of the value, as if tokens were independent
};
Perplexity PerplexityOf(std::span<const double> negative_log_probs);

struct Distribution {
  double mean = 0, standard_error = 0;  // of the mean
  double median = 0, p90 = 0, p99 = 0, p999 = 0, largest = 0;
};
// Quantiles are values that occur: the smallest one that at least the given share of all do not exceed. All 0 for no
// values.
Distribution DistributionOf(std::vector<double> values);

}  // namespace tandem::engine
