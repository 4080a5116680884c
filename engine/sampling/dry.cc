#include "engine/sampling/dry.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/canonical_math.h"
#include "engine/sampling/check_range.h"
#include "engine/sampling/sampler.h"

namespace tandem::engine {

absl::Status ValidateDry(const DryParams& params) {
  TANDEM_RETURN_IF_ERROR(CheckRange("dry.multiplier", params.multiplier, 0.0f, 100.0f));
  TANDEM_RETURN_IF_ERROR(CheckRange("dry.base", params.base, 1.0f, 4.0f));
  TANDEM_RETURN_IF_ERROR(CheckRange("dry.allowed_length", params.allowed_length, 1, 1024));
  TANDEM_RETURN_IF_ERROR(CheckRange("dry.window", params.window, 1, kMaxDryWindow));
  if (params.breakers.size() > kMaxDryBreakers) {
    return absl::InvalidArgumentError(
        absl::StrCat("dry.breakers has ", params.breakers.size(), " entries; the limit is ", kMaxDryBreakers));
  }
  for (const std::string& breaker : params.breakers) {
    if (!breaker.empty() && breaker.size() <= kMaxDryBreakerBytes) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("dry.breakers has an entry of ", breaker.size(), " bytes; valid are 1 to ", kMaxDryBreakerBytes));
  }
  return absl::OkStatus();
}

void DryHistory::Append(int32_t token, absl::string_view text) {
  tokens_.push_back(token);
  breaks_.push_back(EndsABreaker(text));
}

bool DryHistory::EndsABreaker(absl::string_view text) {
  const size_t before = tail_.size();
  absl::StrAppend(&tail_, text);
  bool found = false;
  for (const std::string& breaker : params_.breakers) {
    // Must end behind `before`, so begin not earlier than this.
    const size_t first = before + 1 > breaker.size() ? before + 1 - breaker.size() : 0;
    found = found || tail_.find(breaker, first) != std::string::npos;
  }
  if (tail_.size() > kMaxDryBreakerBytes) tail_.erase(0, tail_.size() - kMaxDryBreakerBytes);
  return found;
}

std::vector<std::pair<int32_t, float>> DryHistory::Penalties() const {
  const size_t count = std::min(tokens_.size(), static_cast<size_t>(params_.window));
  // Newest first: a repetition is then a common prefix of `back` and of what follows in it, which the Z function gives.
  // https://en.wikipedia.org/wiki/Z-function
  const auto back = [&](size_t i) { return tokens_[tokens_.size() - 1 - i]; };
  size_t usable = 0;  // tokens behind the latest breaker: no repetition is longer
  while (usable < count && !breaks_[breaks_.size() - 1 - usable]) ++usable;
  std::vector<size_t> same(count, 0);
  std::vector<std::pair<int32_t, size_t>> longest;  // the token that followed, and how long the repetition is
  for (size_t i = 1, left = 0, right = 0; i < count; ++i) {
    size_t length = i < right ? std::min(right - i, same[i - left]) : 0;
    while (i + length < count && back(length) == back(i + length)) ++length;
    same[i] = length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
    // Equal tokens break alike only if their texts do, so the older side needs no check of its own beyond `usable`.
    const size_t n = std::min(length, usable);
    if (n >= static_cast<size_t>(params_.allowed_length)) longest.emplace_back(back(i - 1), n);
  }
  // The longest repetition of each token comes first.
  std::sort(longest.begin(), longest.end(), [](const auto& a, const auto& b) {
    return a.first < b.first || (a.first == b.first && a.second > b.second);
  });
  std::vector<std::pair<int32_t, float>> penalties;
  for (const auto& [token, n] : longest) {
    if (!penalties.empty() && penalties.back().first == token) continue;
    const double exponent = static_cast<double>(n) - params_.allowed_length;
    const double log_base = CanonicalLog(static_cast<double>(params_.base));
    // e^20 is beyond the largest penalty already, and CanonicalPow is exact to there.
    const double power = exponent * log_base >= 20.0 ? static_cast<double>(kMaxBias)
                                                     : CanonicalPow(static_cast<double>(params_.base), exponent);
    const double penalty = static_cast<double>(params_.multiplier) * power;
    penalties.emplace_back(token, static_cast<float>(std::min(penalty, static_cast<double>(kMaxBias))));
  }
  return penalties;
}

}  // namespace tandem::engine
