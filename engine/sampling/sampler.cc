#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/canonical_math.h"
#include "engine/sampling/candidates.h"

namespace tandem::engine {
namespace {

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

// The tokens that the mask, the model and the bias allow, with their biased logits.
std::vector<Candidate> Allowed(std::span<const float> logits, const SamplingParams& params,
                               std::span<const uint64_t> allowed) {
  std::vector<float> biased;
  if (!params.logit_bias.empty()) {
    biased.assign(logits.begin(), logits.end());
    for (const auto& [token, bias] : params.logit_bias) biased[token] += bias;
    // Huge logits may have left the range of float; they stay the largest.
    for (float& logit : biased) logit = std::min(logit, std::numeric_limits<float>::max());
    logits = biased;
  }
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  const auto add = [&](size_t token) {
    if (std::isfinite(logits[token])) candidates.push_back({static_cast<int32_t>(token), logits[token], 0.0f});
  };
  if (allowed.empty()) {
    for (size_t token = 0; token < logits.size(); ++token) add(token);
    return candidates;
  }
  for (size_t word = 0; word < allowed.size(); ++word) {
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      add(word * 64 + static_cast<size_t>(__builtin_ctzll(bits)));
    }
  }
  return candidates;
}

// Nothing changes the logits: the largest that is allowed is the answer.
bool IsPlainGreedy(const SamplingParams& params, const DrawState& state) {
  return params.temperature == 0.0f && params.logit_bias.empty() && !params.needs_history() && state.dry.empty();
}

// -1 if no logit that is allowed is finite.
int32_t LargestAllowed(std::span<const float> logits, std::span<const uint64_t> allowed) {
  int32_t best = -1;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t word = 0; word < allowed.size(); ++word) {
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const size_t token = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      if (logits[token] <= largest) continue;
      largest = logits[token];
      best = static_cast<int32_t>(token);
    }
  }
  return best;
}

absl::Status NothingLeft() {
  return absl::InvalidArgumentError("no token that may be drawn has a finite logit; logit_bias bans too many");
}

// Whether the filter is applied at all.
bool IsNamed(Filter filter, const SamplingParams& params) {
  return params.filters.empty() ||
         std::find(params.filters.begin(), params.filters.end(), filter) != params.filters.end();
}

void DrawFrom(Candidates* candidates, const SamplingParams& params, const DrawState& state, uint64_t position,
              int32_t vocab_size, SampledToken* result) {
  if (params.temperature == 0.0f) {
    for (const Filter filter : {Filter::kPenalties, Filter::kDry}) {
      if (IsNamed(filter, params)) candidates->Apply(filter, params, state, 0);
    }
    result->token = candidates->MostProbable();
    return;
  }
  const std::array<uint32_t, 4> random = CounterRandom(params.seed, state.dropped + position);
  if (params.filters.empty()) {
    for (int i = 0; i < kNumFilters; ++i) candidates->Apply(static_cast<Filter>(i), params, state, random[1]);
  } else {
    for (const Filter filter : params.filters) candidates->Apply(filter, params, state, random[1]);
  }
  if (params.mirostat != 0) candidates->CutMirostat(params.mirostat, state.mirostat_mu, vocab_size);
  result->token = candidates->Draw(random[0]);
  if (params.mirostat == 0) return;
  const float surprise = static_cast<float>(candidates->SurpriseBits(result->token));
  result->mirostat_mu = std::clamp(state.mirostat_mu - params.mirostat_eta * (surprise - params.mirostat_tau),
                                   -kMaxMirostatMu, kMaxMirostatMu);
}

}  // namespace

absl::StatusOr<SampledToken> Sample(std::span<const float> logits, const SamplingParams& params, const DrawState& state,
                                    uint64_t position) {
  TANDEM_ASSIGN_OR_RETURN(const float largest, LargestLogit(logits));
  SampledToken result;
  if (IsPlainGreedy(params, state)) {
    result.token = state.allowed.empty()
                       ? static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin())
                       : LargestAllowed(logits, state.allowed);
    if (result.token < 0) return NothingLeft();
  } else {
    std::vector<Candidate> items = Allowed(logits, params, state.allowed);
    if (items.empty()) return NothingLeft();
    Candidates candidates(std::move(items));
    DrawFrom(&candidates, params, state, position, static_cast<int32_t>(logits.size()), &result);
  }
  if (params.top_logprobs >= 0) AddLogprobs(logits, largest, params.top_logprobs, &result);
  return result;
}

}  // namespace tandem::engine
