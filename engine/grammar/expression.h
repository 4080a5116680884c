// What grammars, schemas and patterns are parsed into: rules whose bodies are trees over characters.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::engine::grammar {

// Unicode code points [first, last].
struct CharRange {
  char32_t first, last;
};

enum class ExprKind : uint8_t {
  kEmpty,     // matches the empty text
  kChars,     // one character of `ranges`; of none: matches nothing
  kSequence,  // `children` one after the other
  kChoice,    // one of `children`
  kRepeat,    // children[0], `min` to `max` times
  kRule,      // rule number `rule`
};

inline constexpr int32_t kUnbounded = -1;

struct Expr {
  ExprKind kind = ExprKind::kEmpty;
  std::vector<CharRange> ranges;  // kChars
  std::vector<Expr> children;
  int32_t min = 0, max = 0;  // kRepeat; max may be kUnbounded
  int32_t rule = -1;         // kRule
};

Expr Chars(std::vector<CharRange> ranges);
// The ranges may overlap; what is left of Unicode without surrogates.
Expr AllCharsBut(std::vector<CharRange> ranges);
// The characters of `text`, which is UTF-8 (bytes that are none are taken as U+FFFD), one after the other.
Expr Literal(absl::string_view text);
Expr Sequence(std::vector<Expr> children);
Expr Choice(std::vector<Expr> children);
Expr Repeat(Expr child, int32_t min, int32_t max);
Expr Optional(Expr child);
Expr RuleRef(int32_t rule);

struct Rule {
  std::string name;  // for messages; "rule \"ws\" (line 3, column 1)", or "schema at #/$defs/node"
  Expr body;
};

// Rule 0 is the root.
struct RuleSet {
  std::vector<Rule> rules;
};

}  // namespace tandem::engine::grammar
