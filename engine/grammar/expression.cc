#include "engine/grammar/expression.h"

#include "absl/strings/string_view.h"
#include "engine/grammar/utf8_ranges.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine::grammar {

Expr Chars(std::vector<CharRange> ranges) {
  Expr expr;
  expr.kind = ExprKind::kChars;
  expr.ranges = Normalise(std::move(ranges));
  return expr;
}

Expr AllCharsBut(std::vector<CharRange> ranges) { return Chars(Complement(std::move(ranges))); }

Expr Literal(absl::string_view text) {
  std::vector<Expr> chars;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const char32_t c = step.status == Utf8Status::kWhole ? step.code_point : U'\uFFFD';
    chars.push_back(Chars({{c, c}}));
    text.remove_prefix(step.bytes);
  }
  return Sequence(std::move(chars));
}

Expr Sequence(std::vector<Expr> children) {
  if (children.size() == 1) return std::move(children[0]);
  Expr expr;
  expr.kind = children.empty() ? ExprKind::kEmpty : ExprKind::kSequence;
  expr.children = std::move(children);
  return expr;
}

Expr Choice(std::vector<Expr> children) {
  if (children.empty()) return Chars({});
  if (children.size() == 1) return std::move(children[0]);
  Expr expr;
  expr.kind = ExprKind::kChoice;
  expr.children = std::move(children);
  return expr;
}

Expr Repeat(Expr child, int32_t min, int32_t max) {
  Expr expr;
  expr.kind = ExprKind::kRepeat;
  expr.children.push_back(std::move(child));
  expr.min = min;
  expr.max = max;
  return expr;
}

Expr Optional(Expr child) { return Repeat(std::move(child), 0, 1); }

Expr RuleRef(int32_t rule) {
  Expr expr;
  expr.kind = ExprKind::kRule;
  expr.rule = rule;
  return expr;
}

}  // namespace tandem::engine::grammar
