#include "cli/bench/length_distribution.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::cli {
namespace {

// Beyond this a lognormal distribution is nothing but its cut.
constexpr double kMaxSigma = 4;
constexpr double kCutSigmas = 4;

bool IsLength(absl::string_view text, uint32_t* length) {
  return absl::SimpleAtoi(text, length) && *length >= 1 && *length <= kMaxTokens;
}

absl::Status Error(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("a length is 128, 64..256 or lognormal(MEDIAN,SIGMA[,MAX]); \"", text, "\": ", what));
}

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(absl::string_view text) {
  LengthDistribution made;
  made.text_ = std::string(text);
  const std::string range = absl::StrCat("lengths are whole numbers from 1 to ", kMaxTokens);
  absl::string_view arguments = text;
  if (absl::ConsumePrefix(&arguments, "lognormal(")) {
    if (!absl::ConsumeSuffix(&arguments, ")")) return Error(text, "the closing parenthesis is missing");
    const std::vector<absl::string_view> parts = absl::StrSplit(arguments, ',');
    uint32_t median = 0;
    if (parts.size() < 2 || parts.size() > 3) return Error(text, "two or three numbers are needed");
    if (!IsLength(absl::StripAsciiWhitespace(parts[0]), &median)) return Error(text, range);
    if (!absl::SimpleAtod(parts[1], &made.sigma_) || !(made.sigma_ >= 0 && made.sigma_ <= kMaxSigma)) {
      return Error(text, absl::StrCat("SIGMA is a number from 0 to ", kMaxSigma));
    }
    made.median_ = median;
    made.largest_ = static_cast<uint32_t>(
        std::min<double>(kMaxTokens, std::round(made.median_ * std::exp(kCutSigmas * made.sigma_))));
    if (parts.size() == 3 && !IsLength(absl::StripAsciiWhitespace(parts[2]), &made.largest_)) return Error(text, range);
    return made;
  }
  const std::vector<absl::string_view> ends = absl::StrSplit(text, absl::MaxSplits("..", 1));
  if (!IsLength(ends.front(), &made.smallest_) || !IsLength(ends.back(), &made.largest_)) return Error(text, range);
  if (made.smallest_ > made.largest_) return Error(text, "the first number is larger than the second");
  return made;
}

uint32_t LengthDistribution::Draw(Random& random) const {
  if (median_ == 0) return smallest_ + static_cast<uint32_t>(random.Below(uint64_t{largest_} - smallest_ + 1));
  const double drawn = std::round(median_ * std::exp(sigma_ * random.Normal()));
  return static_cast<uint32_t>(std::clamp<double>(drawn, 1, largest_));
}

}  // namespace tandem::cli
