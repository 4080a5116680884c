// The texts of JSON's simple values as expressions. Internal to the schema compiler.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

// White space between the parts of a document.
Expr JsonSpace();
// One character inside a string, as it is or escaped.
Expr JsonStringChar();
// One character inside a string that needs no escape.
Expr JsonPlainChar();
// The same characters as `expr`, written inside a string: quotes, backslashes and control characters escaped.
Expr JsonEscaped(const Expr& expr);
Expr JsonQuoted(Expr content);
// A property's name that is none of `names`.
Expr JsonNameOtherThan(std::vector<std::string> names);

// What a string format allows; nullopt if the format is not known.
std::optional<Expr> JsonFormat(absl::string_view format);
inline constexpr absl::string_view kJsonFormats = "date, time, date-time, uuid, email, hostname and ipv4";

// Bounds of a number; exclusive ones are marked. Infinity: none.
struct NumberBounds {
  double min, max;
  bool above = false, below = false;  // min, max themselves are excluded
  bool bounded() const;
};
// Errors: kInvalidArgument (no integer lies within; too large to be exact).
absl::StatusOr<Expr> JsonInteger(const NumberBounds& bounds);
absl::StatusOr<Expr> JsonNumber(const NumberBounds& bounds);

}  // namespace tandem::engine::grammar
