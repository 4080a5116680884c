#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/check_range.h"
#include "engine/sampling/sampler.h"

namespace tandem::engine {
namespace {

// The bounds keep every intermediate of a draw within float.
constexpr float kMaxTemperature = 100.0f;
constexpr float kMinRepetitionPenalty = 0.01f;
constexpr float kMaxRepetitionPenalty = 100.0f;
constexpr float kMaxPenalty = 100.0f;
absl::Status CheckBias(const std::pair<int32_t, float>& entry, int32_t vocab_size) {
  const auto [token, bias] = entry;
  if (token < 0 || token >= vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias names token ", token, "; the vocabulary has tokens 0 to ", vocab_size - 1));
  }
  if (bias == -std::numeric_limits<float>::infinity() || std::fabs(bias) <= kMaxBias) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("logit_bias of token ", token, " is ", bias, "; valid are ", -kMaxBias,
                                                 " to ", kMaxBias, ", or -inf to ban the token"));
}

absl::Status CheckMirostat(const SamplingParams& params) {
  TANDEM_RETURN_IF_ERROR(CheckRange("mirostat", params.mirostat, 0, 2));
  TANDEM_RETURN_IF_ERROR(CheckAbove("mirostat_tau", params.mirostat_tau, 0.0f, 20.0f));
  TANDEM_RETURN_IF_ERROR(CheckAbove("mirostat_eta", params.mirostat_eta, 0.0f, 1.0f));
  if (params.mirostat != 0 && params.temperature == 0.0f) {
    return absl::InvalidArgumentError(
        absl::StrCat("mirostat is ", params.mirostat, " with temperature 0; it needs a temperature above 0"));
  }
  return absl::OkStatus();
}

bool IsOn(Filter filter, const SamplingParams& params) {
  switch (filter) {
    case Filter::kPenalties:
      return params.needs_history();
    case Filter::kTemperature:
      return params.temperature != 0.0f && params.temperature != 1.0f;
    case Filter::kTopNSigma:
      return params.top_n_sigma != 0.0f;
    case Filter::kTopK:
      return params.top_k != 0;
    case Filter::kTypicalP:
      return params.typical_p != 1.0f;
    case Filter::kTopP:
      return params.top_p != 1.0f;
    case Filter::kMinP:
      return params.min_p != 0.0f;
    case Filter::kXtc:
      return params.xtc_probability != 0.0f;
    case Filter::kDry:
      break;  // comes with the draw (DrawState)
  }
  return false;
}

// A filter that is switched on and not named would be ignored without a word.
absl::Status CheckFilters(const SamplingParams& params) {
  if (params.filters.empty()) return absl::OkStatus();
  std::array<int, kNumFilters> named{};
  for (const Filter filter : params.filters) {
    const size_t index = static_cast<size_t>(filter);
    if (index >= static_cast<size_t>(kNumFilters)) {
      return absl::InvalidArgumentError(
          absl::StrCat("filters has the number ", index, "; valid are 0 to ", kNumFilters - 1));
    }
    if (++named[index] > 1) {
      return absl::InvalidArgumentError(absl::StrCat("filters has ", FilterName(filter), " twice; each may come once"));
    }
  }
  for (int i = 0; i < kNumFilters; ++i) {
    const Filter filter = static_cast<Filter>(i);
    if (named[i] != 0 || !IsOn(filter, params)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        FilterName(filter), " is set, but filters does not name it: add it, ", "or leave the field unset"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view FilterName(Filter filter) {
  static constexpr std::array<absl::string_view, kNumFilters> kNames = {
      "penalties", "dry", "temperature", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc"};
  const size_t index = static_cast<size_t>(filter);
  return index < kNames.size() ? kNames[index] : "unknown";
}

absl::Status ValidateDrawState(const DrawState& state, int32_t vocab_size) {
  const auto known = [vocab_size](int32_t token) { return token >= 0 && token < vocab_size; };
  for (size_t i = 0; i < state.recent.size(); ++i) {
    if (known(state.recent[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("recent[", i, "] is token ", state.recent[i], ", the vocabulary has ids 0 to ", vocab_size - 1));
  }
  for (size_t i = 0; i < state.dry.size(); ++i) {
    const auto [token, penalty] = state.dry[i];
    if (!known(token) || (i > 0 && token <= state.dry[i - 1].first) || !(penalty >= 0.0f && penalty <= kMaxBias)) {
      return absl::InvalidArgumentError(absl::StrCat("dry[", i, "] is ", penalty, " for token ", token,
                                                     "; valid are 0 to ", kMaxBias, " for ascending ids 0 to ",
                                                     vocab_size - 1));
    }
  }
  TANDEM_RETURN_IF_ERROR(CheckRange("mirostat_mu", state.mirostat_mu, -kMaxMirostatMu, kMaxMirostatMu));
  if (state.allowed.empty()) return absl::OkStatus();
  const size_t words = (static_cast<size_t>(vocab_size) + 63) / 64;
  if (state.allowed.size() != words) {
    return absl::InvalidArgumentError(
        absl::StrCat("allowed has ", state.allowed.size(), " words, expected ", words, " for ", vocab_size, " tokens"));
  }
  const int used = vocab_size % 64;
  if (used != 0 && state.allowed.back() >> used != 0) {
    return absl::InvalidArgumentError(absl::StrCat("allowed has tokens beyond the vocabulary of ", vocab_size));
  }
  if (std::all_of(state.allowed.begin(), state.allowed.end(), [](uint64_t word) { return word == 0; })) {
    return absl::InvalidArgumentError("allowed has no token; at least one is needed");
  }
  return absl::OkStatus();
}

absl::Status ValidateSampling(const SamplingParams& params, int32_t vocab_size) {
  constexpr int32_t kAnyCount = std::numeric_limits<int32_t>::max();
  TANDEM_RETURN_IF_ERROR(CheckRange("temperature", params.temperature, 0.0f, kMaxTemperature));
  TANDEM_RETURN_IF_ERROR(CheckRange("top_k", params.top_k, 0, kAnyCount));
  TANDEM_RETURN_IF_ERROR(CheckAbove("top_p", params.top_p, 0.0f, 1.0f));
  TANDEM_RETURN_IF_ERROR(CheckRange("min_p", params.min_p, 0.0f, 1.0f));
  TANDEM_RETURN_IF_ERROR(CheckAbove("typical_p", params.typical_p, 0.0f, 1.0f));
  TANDEM_RETURN_IF_ERROR(CheckRange("top_n_sigma", params.top_n_sigma, 0.0f, 100.0f));
  TANDEM_RETURN_IF_ERROR(CheckRange("xtc_probability", params.xtc_probability, 0.0f, 1.0f));
  TANDEM_RETURN_IF_ERROR(CheckAbove("xtc_threshold", params.xtc_threshold, 0.0f, 0.5f));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("repetition_penalty", params.repetition_penalty, kMinRepetitionPenalty, kMaxRepetitionPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("presence_penalty", params.presence_penalty, -kMaxPenalty, kMaxPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("frequency_penalty", params.frequency_penalty, -kMaxPenalty, kMaxPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("penalty_window", params.penalty_window, 0, kAnyCount));
  TANDEM_RETURN_IF_ERROR(CheckMirostat(params));
  TANDEM_RETURN_IF_ERROR(CheckFilters(params));
  TANDEM_RETURN_IF_ERROR(CheckRange("top_logprobs", params.top_logprobs, -1, kMaxTopLogprobs));
  if (params.logit_bias.size() > static_cast<size_t>(kMaxLogitBias)) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias has ", params.logit_bias.size(), " entries; the limit is ", kMaxLogitBias));
  }
  for (const auto& entry : params.logit_bias) TANDEM_RETURN_IF_ERROR(CheckBias(entry, vocab_size));
  const auto bans = [](const auto& entry) { return std::isinf(entry.second); };
  if (std::count_if(params.logit_bias.begin(), params.logit_bias.end(), bans) >= vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("logit_bias bans all ", vocab_size, " tokens; leave at least one"));
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
