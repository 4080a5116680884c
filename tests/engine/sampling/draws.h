// What the sampling tests share: many draws, and how far they are from what was expected.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "engine/sampling/sampler.h"

namespace tandem::engine {

inline int32_t Drawn(const std::vector<float>& logits, const SamplingParams& params, const DrawState& state,
                     uint64_t position) {
  const auto result = Sample(logits, params, state, position);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->token : -1;
}

inline int32_t Token(const std::vector<float>& logits, const SamplingParams& params,
                     const std::vector<int32_t>& recent = {}, uint64_t position = 0) {
  return Drawn(logits, params, {.recent = recent}, position);
}

// Share of each token among the draws at positions 0..draws-1.
inline std::map<int32_t, double> Shares(const std::vector<float>& logits, const SamplingParams& params, int draws,
                                        const DrawState& state = {}) {
  std::map<int32_t, double> shares;
  for (int position = 0; position < draws; ++position) {
    shares[Drawn(logits, params, state, static_cast<uint64_t>(position))] += 1.0 / draws;
  }
  return shares;
}

inline std::set<int32_t> Support(const std::vector<float>& logits, const SamplingParams& params, int draws = 2000) {
  std::set<int32_t> tokens;
  for (const auto& [token, share] : Shares(logits, params, draws)) tokens.insert(token);
  return tokens;
}

// Logits whose softmax is `probabilities`.
inline std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

// Chi-square statistic of `draws` draws against `expected` probabilities.
inline double ChiSquare(const std::map<int32_t, double>& shares, const std::vector<double>& expected, int draws) {
  double sum = 0.0;
  for (size_t token = 0; token < expected.size(); ++token) {
    const auto it = shares.find(static_cast<int32_t>(token));
    const double share = it == shares.end() ? 0.0 : it->second;
    sum += draws * (share - expected[token]) * (share - expected[token]) / expected[token];
  }
  return sum;
}

}  // namespace tandem::engine
