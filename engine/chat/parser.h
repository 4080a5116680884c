// Tokens to statements. Recursive descent with Jinja's precedence: filters and tests bind tightest, then unary minus,
// * / // %, ~, + -, comparisons, not, and, or, if-else.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/chat/ast.h"

namespace tandem::engine::jinja {

// Errors: kInvalidArgument with line and column: syntax, deeper than kMaxNodeDepth, or a construct that is not
// supported (named).
absl::StatusOr<Block> ParseTemplate(absl::string_view source);

}  // namespace tandem::engine::jinja
