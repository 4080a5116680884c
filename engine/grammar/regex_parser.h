// The regular expressions of the schema keyword "pattern" (ECMA-262), as far as they are regular: alternatives, groups
// ( ) and (?: ), classes with \d \w \s and their opposites, `.`, * + ? {m,n} with or without a lazy `?`, escapes, ^ and
// $ at the ends of the outermost alternatives. Without ^ or $ anything may come before or after.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

inline constexpr int32_t kMaxPatternRepeat = 10'000;

// Errors: kInvalidArgument with line and column: look-around, back references, \b, \p and what else is not supported.
absl::StatusOr<Expr> ParseRegex(absl::string_view pattern);

}  // namespace tandem::engine::grammar
