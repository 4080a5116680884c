#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/grammar/json_texts.h"
#include "engine/grammar/regex_parser.h"
#include "engine/grammar/utf8_ranges.h"

namespace tandem::engine::grammar {
namespace {

constexpr int32_t kMaxIndent = 20;

// Characters that a string cannot hold as they are.
std::vector<CharRange> MustBeEscaped() { return {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}; }

// How one of them is written.
std::string EscapeOf(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
  }
}

Expr Hex(int32_t count) { return Repeat(Chars({{'0', '9'}, {'A', 'F'}, {'a', 'f'}}), count, count); }

Expr EscapedChars(const std::vector<CharRange>& ranges) {
  std::vector<CharRange> plain;
  std::vector<Expr> choices;
  const std::vector<CharRange> escaped = MustBeEscaped();
  const auto overlap = [](CharRange a, CharRange b) {
    return CharRange{std::max(a.first, b.first), std::min(a.last, b.last)};
  };
  for (const CharRange range : ranges) {
    for (const CharRange free : Complement(escaped)) plain.push_back(overlap(range, free));
    for (const CharRange special : escaped) {
      const CharRange both = overlap(range, special);
      for (char32_t c = both.first; c <= both.last; ++c) choices.push_back(Literal(EscapeOf(c)));
    }
  }
  choices.push_back(Chars(std::move(plain)));
  return Choice(std::move(choices));
}

// Without the copies that a list in braces makes of a deep tree.
Expr Then(Expr first, Expr second) {
  std::vector<Expr> both;
  both.push_back(std::move(first));
  both.push_back(std::move(second));
  return Sequence(std::move(both));
}

// The names that differ from all of names[begin, end), which are sorted and share their first `depth` characters.
Expr OtherThan(const std::vector<std::u32string>& names, size_t begin, size_t end, size_t depth) {
  std::vector<Expr> choices;
  std::vector<CharRange> next = MustBeEscaped();
  bool ends_here = false;
  for (size_t i = begin; i < end;) {
    if (names[i].size() == depth) {
      ends_here = true;
      ++i;
      continue;
    }
    const char32_t c = names[i][depth];
    size_t group = i;
    while (group < end && names[group][depth] == c) ++group;
    next.push_back({c, c});
    choices.push_back(Then(Chars({{c, c}}), OtherThan(names, i, group, depth + 1)));
    i = group;
  }
  choices.push_back(Sequence({AllCharsBut(std::move(next)), Repeat(JsonPlainChar(), 0, kUnbounded)}));
  if (!ends_here) choices.push_back(Expr());
  return Choice(std::move(choices));
}

}  // namespace

Expr JsonSpace() {
  return Optional(
      Choice({Literal(" "), Sequence({Literal("\n"), Repeat(Chars({{' ', ' '}, {'\t', '\t'}}), 0, kMaxIndent)})}));
}

Expr JsonPlainChar() { return AllCharsBut(MustBeEscaped()); }

Expr JsonStringChar() {
  // Surrogates only make characters in pairs; leaving them out loses nothing that cannot be written as it is.
  const Expr no_surrogate =
      Choice({Sequence({Chars({{'0', '9'}, {'A', 'C'}, {'a', 'c'}, {'E', 'F'}, {'e', 'f'}}), Hex(3)}),
              Sequence({Chars({{'D', 'D'}, {'d', 'd'}}), Chars({{'0', '7'}}), Hex(2)})});
  const Expr simple =
      Chars({{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}});
  return Choice({JsonPlainChar(), Sequence({Literal("\\"), Choice({simple, Sequence({Literal("u"), no_surrogate})})})});
}

Expr JsonEscaped(const Expr& expr) {
  if (expr.kind == ExprKind::kChars) return EscapedChars(expr.ranges);
  Expr result = expr;
  for (Expr& child : result.children) child = JsonEscaped(child);
  return result;
}

Expr JsonQuoted(Expr content) { return Sequence({Literal("\""), std::move(content), Literal("\"")}); }

Expr JsonNameOtherThan(std::vector<std::string> names) {
  std::vector<std::u32string> decoded;
  for (const std::string& name : names) {
    std::u32string& text = decoded.emplace_back();
    const Expr literal = Literal(name);
    // A literal of one character is that character itself.
    if (literal.kind == ExprKind::kChars) text.push_back(literal.ranges[0].first);
    for (const Expr& c : literal.children) text.push_back(c.ranges[0].first);
    // A name that needs escapes cannot be written by the plain characters of additional names anyway.
    const auto special = [](char32_t c) { return c < 0x20 || c == '"' || c == '\\'; };
    if (std::any_of(text.begin(), text.end(), special)) decoded.pop_back();
  }
  std::sort(decoded.begin(), decoded.end());
  decoded.erase(std::unique(decoded.begin(), decoded.end()), decoded.end());
  return JsonQuoted(OtherThan(decoded, 0, decoded.size(), 0));
}

std::optional<Expr> JsonFormat(absl::string_view format) {
  // RFC 3339 without leap seconds and 29 February, RFC 9562, and the common core of RFC 5321 and 1123.
  const std::string date =
      "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])"
      ")";
  const std::string time =
      "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
  const std::string label = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?";
  const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  std::string pattern;
  if (format == "date") {
    pattern = date;
  } else if (format == "time") {
    pattern = time;
  } else if (format == "date-time") {
    pattern = absl::StrCat(date, "T", time);
  } else if (format == "uuid") {
    pattern = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
  } else if (format == "email") {
    pattern = absl::StrCat("[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@(", label, "\\.){1,3}[a-z]{2,10}");
  } else if (format == "hostname") {
    pattern = absl::StrCat("(", label, "\\.){0,4}[a-z]([a-z0-9-]{0,30}[a-z0-9])?");
  } else if (format == "ipv4") {
    pattern = absl::StrCat(byte, "(\\.", byte, "){3}");
  } else {
    return std::nullopt;
  }
  absl::StatusOr<Expr> expr = ParseRegex(absl::StrCat("^(", pattern, ")$"));
  return expr.ok() ? std::make_optional(*std::move(expr)) : std::nullopt;  // ours, so it parses: a test checks each
}

}  // namespace tandem::engine::grammar
