// Lengths of prompts and answers, in tokens.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/bench/random.h"

namespace tandem::cli {

// Longest prompt or answer that can be asked for: beyond any context.
inline constexpr uint32_t kMaxTokens = 1 << 20;

// A constant, a uniform or a truncated lognormal distribution over 1..kMaxTokens.
class LengthDistribution {
 public:
  // "128"; "64..256", both ends included; "lognormal(128,0.5)", of that median and standard deviation of the logarithm,
  // cut off at median * exp(4 * sigma), or at the third number if there is one: "lognormal(128,0.5,1024)". Errors:
  // kInvalidArgument (none of these, or a number out of range; names the text).
  static absl::StatusOr<LengthDistribution> Parse(absl::string_view text);

  uint32_t Draw(Random& random) const;
  uint32_t largest() const { return largest_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  uint32_t smallest_ = 1, largest_ = 1;
  double median_ = 0, sigma_ = 0;  // median 0: uniform
};

}  // namespace tandem::cli
