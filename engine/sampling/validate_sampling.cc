#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/sampler.h"

namespace tandem::engine {
namespace {

// The bounds keep every intermediate of a draw within float.
constexpr float kMaxTemperature = 100.0f;
constexpr float kMinRepetitionPenalty = 0.01f;
constexpr float kMaxRepetitionPenalty = 100.0f;
constexpr float kMaxPenalty = 100.0f;
constexpr float kMaxBias = 1e6f;

template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T min, T max) {
  if (value >= min && value <= max) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; valid are ", min, " to ", max));
}

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

}  // namespace

absl::Status ValidateSampling(const SamplingParams& params, int32_t vocab_size) {
  constexpr int32_t kAnyCount = std::numeric_limits<int32_t>::max();
  TANDEM_RETURN_IF_ERROR(CheckRange("temperature", params.temperature, 0.0f, kMaxTemperature));
  TANDEM_RETURN_IF_ERROR(CheckRange("top_k", params.top_k, 0, kAnyCount));
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    return absl::InvalidArgumentError(absl::StrCat("top_p is ", params.top_p, "; valid are above 0 to 1"));
  }
  TANDEM_RETURN_IF_ERROR(CheckRange("min_p", params.min_p, 0.0f, 1.0f));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("repetition_penalty", params.repetition_penalty, kMinRepetitionPenalty, kMaxRepetitionPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("presence_penalty", params.presence_penalty, -kMaxPenalty, kMaxPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("frequency_penalty", params.frequency_penalty, -kMaxPenalty, kMaxPenalty));
  TANDEM_RETURN_IF_ERROR(CheckRange("penalty_window", params.penalty_window, 0, kAnyCount));
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
