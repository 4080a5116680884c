// DRY ("don't repeat yourself", published by p-e-w with text-generation-webui): a token that would continue a
// repetition of what the text said before is penalised, the more the longer the repetition already is.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

struct DryParams {
  float multiplier = 0.0f;     // 0..100; 0: off
  float base = 1.75f;          // 1..4
  int32_t allowed_length = 2;  // 1..1024: repetitions of fewer tokens cost nothing
  int32_t window = 4096;       // 1..kMaxDryWindow: the last tokens that are searched for repetitions
  // No repetition reaches across a token in whose text one of these ends. At most kMaxDryBreakers of 1 to
  // kMaxDryBreakerBytes bytes.
  std::vector<std::string> breakers = {"\n", ":", "\"", "*"};
};
inline constexpr int32_t kMaxDryWindow = 65536;
inline constexpr size_t kMaxDryBreakers = 64;
inline constexpr size_t kMaxDryBreakerBytes = 64;
// Errors: kInvalidArgument naming the field, its value and the valid range.
absl::Status ValidateDry(const DryParams& params);

// The tokens of one sequence as DRY sees them: a function of the tokens given, so it can be rebuilt anywhere. `params`
// must be valid. Thread-compatible.
class DryHistory {
 public:
  explicit DryHistory(DryParams params) : params_(std::move(params)) {}
  // The next token and its text.
  void Append(int32_t token, absl::string_view text);
  // multiplier * base^(n - allowed_length) for every token that would make a repetition of n >= allowed_length tokens
  // one longer, for the longest such n; by ascending token, bounded by the sampler's kMaxBias. O(window log window).
  std::vector<std::pair<int32_t, float>> Penalties() const;

 private:
  bool EndsABreaker(absl::string_view text);

  DryParams params_;
  std::vector<int32_t> tokens_;
  std::vector<bool> breaks_;  // for each of tokens_
  std::string tail_;          // the last bytes of the text: breakers may begin there
};

}  // namespace tandem::engine
