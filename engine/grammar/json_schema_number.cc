#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/grammar/json_texts.h"

namespace tandem::engine::grammar {
namespace {

constexpr int32_t kMostDigits = 15;
constexpr int64_t kLargestFractions = 1'000'000'000;  // where a side is not bounded
constexpr int64_t kLargest = 999'999'999'999'999;     // of kMostDigits digits

Expr Digit(char first, char last) {
  return Chars({{static_cast<unsigned char>(first), static_cast<unsigned char>(last)}});
}
Expr AnyDigits(size_t count) {
  return Repeat(Digit('0', '9'), static_cast<int32_t>(count), static_cast<int32_t>(count));
}

// Numbers of as many digits as `bound` that are at least, or at most, it.
Expr AtLeast(const std::string& bound, size_t at) {
  if (at == bound.size()) return Expr();
  std::vector<Expr> choices;
  choices.push_back(Sequence({Digit(bound[at], bound[at]), AtLeast(bound, at + 1)}));
  if (bound[at] < '9') {
    choices.push_back(Sequence({Digit(static_cast<char>(bound[at] + 1), '9'), AnyDigits(bound.size() - at - 1)}));
  }
  return Choice(std::move(choices));
}
Expr AtMost(const std::string& bound, size_t at) {
  if (at == bound.size()) return Expr();
  std::vector<Expr> choices;
  choices.push_back(Sequence({Digit(bound[at], bound[at]), AtMost(bound, at + 1)}));
  if (bound[at] > '0') {
    choices.push_back(Sequence({Digit('0', static_cast<char>(bound[at] - 1)), AnyDigits(bound.size() - at - 1)}));
  }
  return Choice(std::move(choices));
}

// Numbers from `low` to `high`, which have the same number of digits.
Expr SameLength(const std::string& low, const std::string& high, size_t at) {
  if (at == low.size()) return Expr();
  if (low[at] == high[at]) return Sequence({Digit(low[at], low[at]), SameLength(low, high, at + 1)});
  std::vector<Expr> choices;
  choices.push_back(Sequence({Digit(low[at], low[at]), AtLeast(low, at + 1)}));
  choices.push_back(Sequence({Digit(high[at], high[at]), AtMost(high, at + 1)}));
  if (high[at] - low[at] > 1) {
    choices.push_back(Sequence(
        {Digit(static_cast<char>(low[at] + 1), static_cast<char>(high[at] - 1)), AnyDigits(low.size() - at - 1)}));
  }
  return Choice(std::move(choices));
}

// Integers from `low` to `high` without sign, 0 <= low <= high.
Expr Magnitudes(int64_t low, int64_t high) {
  std::vector<Expr> choices;
  int64_t power = 10;  // the least number of one digit more than `digits`
  for (int32_t digits = 1; low <= high; ++digits, power *= 10) {
    if (low >= power) continue;
    if (low != power / 10 || high < power - 1) {
      const int64_t last = std::min(high, power - 1);
      choices.push_back(SameLength(absl::StrCat(low), absl::StrCat(last), 0));
      low = last + 1;
      continue;
    }
    // All numbers of this length, and perhaps of longer ones.
    const int32_t shortest = digits;
    for (; high >= power * 10 - 1; ++digits) power *= 10;
    choices.push_back(Sequence({Digit('1', '9'), Repeat(Digit('0', '9'), shortest - 1, digits - 1)}));
    low = power;
  }
  return Choice(std::move(choices));
}

// "x" for 0 and more, "-x" below; none if low > high.
void AppendIntegers(int64_t low, int64_t high, std::vector<Expr>* choices) {
  if (low < 0 && low <= high) {
    choices->push_back(Sequence({Literal("-"), Magnitudes(std::max<int64_t>(1, -high), -low)}));
  }
  if (high >= 0 && low <= high) choices->push_back(Magnitudes(std::max<int64_t>(0, low), high));
}

struct IntegerBounds {
  int64_t low, high;  // integers allowed
  int64_t from, to;   // and all between integers of [from, to]
};

// .5, .25: between 0 and 1, both excluded. With fewer than 16 digits in all, a number stays between the integers around
// it when it is read as a double.
Expr Fraction(const IntegerBounds& bounds) {
  const int64_t most = std::max(std::abs(bounds.from), std::abs(bounds.to));
  const int32_t digits = std::max(1, kMostDigits - static_cast<int32_t>(absl::StrCat(most).size()));
  return Sequence({Literal("."), Repeat(Digit('0', '9'), 0, digits - 1), Digit('1', '9')});
}

absl::StatusOr<IntegerBounds> ToIntegers(const NumberBounds& bounds) {
  for (const double bound : {bounds.min, bounds.max}) {
    if (std::isfinite(bound) && std::fabs(bound) > static_cast<double>(kLargest)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the bound ", bound, " is too large; supported are numbers of up to ", kMostDigits, " digits"));
    }
  }
  IntegerBounds result{-kLargest, kLargest, -kLargestFractions, kLargestFractions};
  if (std::isfinite(bounds.min)) {
    result.from = static_cast<int64_t>(std::ceil(bounds.min));
    result.low = bounds.above ? static_cast<int64_t>(std::floor(bounds.min)) + 1 : result.from;
  }
  if (std::isfinite(bounds.max)) {
    result.to = static_cast<int64_t>(std::floor(bounds.max));
    result.high = bounds.below ? static_cast<int64_t>(std::ceil(bounds.max)) - 1 : result.to;
  }
  if (!std::isfinite(bounds.max)) result.to = std::min(kLargest, std::max(result.to, result.from + kLargestFractions));
  if (!std::isfinite(bounds.min))
    result.from = std::max(-kLargest, std::min(result.from, result.to - kLargestFractions));
  return result;
}

}  // namespace

bool NumberBounds::bounded() const { return std::isfinite(min) || std::isfinite(max); }

absl::StatusOr<Expr> JsonInteger(const NumberBounds& bounds) {
  const absl::StatusOr<IntegerBounds> range = ToIntegers(bounds);
  if (!range.ok()) return range.status();
  std::vector<Expr> choices;
  AppendIntegers(range->low, range->high, &choices);
  if (choices.empty()) return absl::InvalidArgumentError("no integer lies within the bounds");
  return Choice(std::move(choices));
}

absl::StatusOr<Expr> JsonNumber(const NumberBounds& bounds) {
  if (!bounds.bounded()) {
    const Expr digits = Repeat(Digit('0', '9'), 1, kMostDigits);
    const Expr exponent = Sequence(
        {Chars({{'e', 'e'}, {'E', 'E'}}), Optional(Chars({{'+', '+'}, {'-', '-'}})), Repeat(Digit('0', '9'), 1, 2)});
    return Sequence({Optional(Literal("-")), Magnitudes(0, kLargest), Optional(Sequence({Literal("."), digits})),
                     Optional(exponent)});
  }
  const absl::StatusOr<IntegerBounds> range = ToIntegers(bounds);
  if (!range.ok()) return range.status();
  std::vector<Expr> choices;
  AppendIntegers(range->low, range->high, &choices);
  // i.f lies between i and i + 1, -i.f between -i - 1 and -i.
  if (range->to > 0 && range->from < range->to) {
    choices.push_back(Sequence({Magnitudes(std::max<int64_t>(0, range->from), range->to - 1), Fraction(*range)}));
  }
  if (range->from < 0 && range->from < range->to) {
    choices.push_back(
        Sequence({Literal("-"), Magnitudes(std::max<int64_t>(0, -range->to), -range->from - 1), Fraction(*range)}));
  }
  if (choices.empty()) {
    return absl::InvalidArgumentError("no integer lies within the bounds; narrower ones are not supported");
  }
  return Choice(std::move(choices));
}

}  // namespace tandem::engine::grammar
