// GBNF, the notation for grammars that llama.cpp made common (its grammars/README.md describes it): rules
// `name ::= body`, literals "...", classes [a-z] and [^a-z], `.`, `|`, ( ), * + ? {m} {m,} {m,n}, # comments, escapes
// \n \r \t \" \\ \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH. A body ends with its line, unless parentheses are open or the next
// line begins with `|`. The first symbol is the rule `root`.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

inline constexpr size_t kMaxGrammarBytes = 256 << 10;
inline constexpr int kMaxExprDepth = 64;        // nested parentheses
inline constexpr int32_t kMaxRepeat = 100'000;  // of {m,n}; the size of the whole is bounded by Program
inline constexpr size_t kMaxRules = 10'000;

// Errors: kInvalidArgument with line and column: what is no GBNF, a rule that is missing or given twice, no root, more
// than the limits above.
absl::StatusOr<RuleSet> ParseGbnf(absl::string_view text);

}  // namespace tandem::engine::grammar
