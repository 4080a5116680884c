#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/canonical_math.h"

namespace tandem::engine {
namespace {

// A token that may be drawn. `weight` is its probability but for a common factor: exp of the distance to the largest
// logit.
struct Candidate {
  int32_t token;
  float logit;
  float weight;
};

bool MoreProbable(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Errors: kInternal (a NaN or +infinity, or no finite value).
absl::StatusOr<float> LargestLogit(std::span<const float> logits) {
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] <= std::numeric_limits<float>::max())) {
      return absl::InternalError(absl::StrCat("logit ", i, " of ", logits.size(), " is ", logits[i],
                                              ": the model's output is broken; check the model file"));
    }
    largest = std::max(largest, logits[i]);
  }
  if (!std::isfinite(largest)) {
    return absl::InternalError(absl::StrCat("none of ", logits.size(),
                                            " logits is finite: the model's output is broken; check the model file"));
  }
  return largest;
}

int32_t FirstOf(std::span<const float> logits, float largest) {
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
}

// Log-probabilities of `result->token` and of the `count` most probable tokens.
void AddLogprobs(std::span<const float> logits, float largest, int32_t count, SampledToken* result) {
  double sum = 0.0;
  for (const float logit : logits) sum += static_cast<double>(CanonicalExp(logit - largest));
  const double log_sum = CanonicalLog(sum);
  const auto logprob = [&](int32_t token) {
    return static_cast<float>(static_cast<double>(logits[token]) - static_cast<double>(largest) - log_sum);
  };
  result->logprob = logprob(result->token);
  if (count == 0) return;
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto end = order.begin() + std::min<size_t>(static_cast<size_t>(count), order.size());
  std::partial_sort(order.begin(), end, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  for (auto it = order.begin(); it != end; ++it) result->top.push_back({*it, logprob(*it)});
}

bool ChangesLogits(const SamplingParams& params, std::span<const int32_t> recent) {
  return !params.logit_bias.empty() || (params.needs_history() && params.penalty_window > 0 && !recent.empty());
}

// Logit bias, then the penalties.
std::vector<float> Adjust(std::span<const float> logits, const SamplingParams& params,
                          std::span<const int32_t> recent) {
  std::vector<float> adjusted(logits.begin(), logits.end());
  const auto known = [&](int32_t token) { return token >= 0 && static_cast<size_t>(token) < adjusted.size(); };
  for (const auto& [token, bias] : params.logit_bias) {
    if (known(token)) adjusted[token] += bias;
  }
  if (params.needs_history()) {
    absl::flat_hash_map<int32_t, int32_t> occurrences;
    const size_t window = std::min(recent.size(), static_cast<size_t>(params.penalty_window));
    for (const int32_t token : recent.last(window)) {
      if (known(token)) ++occurrences[token];
    }
    for (const auto& [token, count] : occurrences) {
      float& logit = adjusted[token];
      logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
    }
  }
  // Huge logits may have left the range of float; they stay the largest.
  for (float& logit : adjusted) logit = std::min(logit, std::numeric_limits<float>::max());
  return adjusted;
}

double TotalWeight(const std::vector<Candidate>& candidates) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += static_cast<double>(candidate.weight);
  return total;
}

// Keeps the smallest set of most probable tokens whose weights reach `top_p` of the total.
void KeepTopP(float top_p, std::vector<Candidate>* candidates) {
  const double target = static_cast<double>(top_p) * TotalWeight(*candidates);
  // Few tokens reach the target as a rule: sort a short start of the list, and twice as much while it is not enough.
  constexpr size_t kFirstSort = 64;
  double sum = 0.0;
  size_t kept = 0;
  for (size_t sorted = kFirstSort; kept < candidates->size() && sum < target; sorted *= 2) {
    const auto begin = candidates->begin() + static_cast<ptrdiff_t>(kept);
    const size_t limit = std::min(sorted, candidates->size());
    std::partial_sort(begin, candidates->begin() + static_cast<ptrdiff_t>(limit), candidates->end(), MoreProbable);
    while (kept < limit && sum < target) sum += static_cast<double>((*candidates)[kept++].weight);
  }
  candidates->resize(std::max<size_t>(kept, 1));
}

// Tokens in ascending order, which fixes how the weights are summed.
int32_t Draw(std::vector<Candidate>* candidates, uint32_t random) {
  std::sort(candidates->begin(), candidates->end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
  const double target = (static_cast<double>(random) + 0.5) * kTwoToMinus32 * TotalWeight(*candidates);
  double sum = 0.0;
  int32_t last = candidates->front().token;
  for (const Candidate& candidate : *candidates) {
    if (candidate.weight == 0.0f) continue;
    last = candidate.token;
    sum += static_cast<double>(candidate.weight);
    if (sum > target) break;
  }
  return last;
}

int32_t DrawFiltered(std::span<const float> logits, float largest, const SamplingParams& params, uint64_t position) {
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const float weight = CanonicalExp((logits[i] - largest) / params.temperature);
    candidates.push_back({static_cast<int32_t>(i), logits[i], weight});
  }
  const size_t top_k = static_cast<size_t>(params.top_k);
  if (top_k > 0 && top_k < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(top_k), candidates.end(),
                     MoreProbable);
    candidates.resize(top_k);
  }
  if (params.top_p < 1.0f) KeepTopP(params.top_p, &candidates);
  // The largest weight is exp(0) = 1.
  if (params.min_p > 0.0f) std::erase_if(candidates, [&](const Candidate& c) { return c.weight < params.min_p; });
  return Draw(&candidates, CounterRandom(params.seed, position));
}

}  // namespace

absl::StatusOr<SampledToken> Sample(std::span<const float> logits, const SamplingParams& params,
                                    std::span<const int32_t> recent, uint64_t position) {
  TANDEM_ASSIGN_OR_RETURN(const float model_largest, LargestLogit(logits));
  std::vector<float> adjusted;
  std::span<const float> view = logits;
  float largest = model_largest;
  if (ChangesLogits(params, recent)) {
    adjusted = Adjust(logits, params, recent);
    view = adjusted;
    largest = *std::max_element(adjusted.begin(), adjusted.end());
    if (!std::isfinite(largest)) {
      return absl::InvalidArgumentError("logit_bias bans every token that the model allows; leave at least one");
    }
  }
  SampledToken result;
  result.token = params.temperature == 0.0f ? FirstOf(view, largest) : DrawFiltered(view, largest, params, position);
  if (params.top_logprobs >= 0) AddLogprobs(logits, model_largest, params.top_logprobs, &result);
  return result;
}

}  // namespace tandem::engine
