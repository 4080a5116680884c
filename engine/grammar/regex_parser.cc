#include "engine/grammar/regex_parser.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/source_cursor.h"
#include "engine/grammar/utf8_ranges.h"

namespace tandem::engine::grammar {
namespace {

constexpr int kMaxDepth = 32;

using Ranges = std::vector<CharRange>;

Ranges Digits() { return {{'0', '9'}}; }
Ranges WordChars() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
Ranges Spaces() {
  return {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}
Ranges LineEnds() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }

Expr Anything() { return Repeat(AllCharsBut({}), 0, kUnbounded); }

class Parser {
 public:
  explicit Parser(absl::string_view pattern) : cursor_(pattern) {}

  absl::StatusOr<Expr> Parse() {
    TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseChoice(0));
    if (!cursor_.at_end()) return cursor_.Error("this parenthesis was not opened");
    return expr;
  }

 private:
  absl::StatusOr<Expr> ParseChoice(int depth) {
    if (depth > kMaxDepth) return cursor_.Error(absl::StrCat("more than ", kMaxDepth, " nested groups"));
    std::vector<Expr> choices;
    do {
      TANDEM_ASSIGN_OR_RETURN(Expr sequence, ParseSequence(depth));
      choices.push_back(std::move(sequence));
    } while (cursor_.Take("|"));
    return Choice(std::move(choices));
  }

  absl::StatusOr<Expr> ParseSequence(int depth) {
    std::vector<Expr> parts;
    if (depth == 0 && !cursor_.Take("^")) parts.push_back(Anything());
    while (!cursor_.at_end() && cursor_.Peek() != '|' && cursor_.Peek() != ')') {
      if (cursor_.Peek() == '$') {
        const size_t begin = cursor_.offset();
        cursor_.Skip();
        if (depth == 0 && (cursor_.at_end() || cursor_.Peek() == '|')) return Sequence(std::move(parts));
        return cursor_.ErrorAt(begin, "$ is supported at the end of the pattern only");
      }
      TANDEM_ASSIGN_OR_RETURN(Expr part, ParseAtom(depth));
      TANDEM_ASSIGN_OR_RETURN(part, ParseRepeat(std::move(part)));
      parts.push_back(std::move(part));
    }
    if (depth == 0) parts.push_back(Anything());
    return Sequence(std::move(parts));
  }

  absl::StatusOr<Expr> ParseAtom(int depth) {
    const size_t begin = cursor_.offset();
    switch (cursor_.Peek()) {
      case '(': {
        cursor_.Skip();
        if (cursor_.Peek() == '?' && !cursor_.Take("?:")) {
          return cursor_.ErrorAt(begin, "groups that begin with (? are not supported, but for (?:");
        }
        TANDEM_ASSIGN_OR_RETURN(Expr group, ParseChoice(depth + 1));
        if (!cursor_.Take(")")) return cursor_.ErrorAt(begin, "this group is not closed");
        return group;
      }
      case '[':
        return ParseClass();
      case '.':
        cursor_.Skip();
        return AllCharsBut(LineEnds());
      case '^':
        return cursor_.Error("^ is supported at the beginning of the pattern only");
      case '*':
      case '+':
      case '?':
      case '{':
        return cursor_.Error("there is nothing to repeat here");
      case '\\': {
        TANDEM_ASSIGN_OR_RETURN(Ranges ranges, ParseEscape(false));
        return Chars(std::move(ranges));
      }
      default: {
        TANDEM_ASSIGN_OR_RETURN(const char32_t c, cursor_.TakeChar());
        return Chars({{c, c}});
      }
    }
  }

  absl::StatusOr<Expr> ParseRepeat(Expr part) {
    int32_t min = 0, max = kUnbounded;
    const size_t begin = cursor_.offset();
    if (cursor_.Take("+")) {
      min = 1;
    } else if (cursor_.Take("?")) {
      max = 1;
    } else if (cursor_.Take("{")) {
      TANDEM_ASSIGN_OR_RETURN(min, cursor_.TakeNumber("repetition count", kMaxPatternRepeat));
      max = min;
      if (cursor_.Take(",")) {
        max = kUnbounded;
        if (cursor_.Peek() != '}') {
          TANDEM_ASSIGN_OR_RETURN(max, cursor_.TakeNumber("repetition count", kMaxPatternRepeat));
        }
      }
      if (!cursor_.Take("}")) return cursor_.Error("\"}\" is expected");
      if (max != kUnbounded && max < min) return cursor_.ErrorAt(begin, "the counts are the wrong way round");
    } else if (!cursor_.Take("*")) {
      return part;
    }
    cursor_.Take("?");  // lazy: the same texts
    const char next = cursor_.Peek();
    if (next == '*' || next == '+' || next == '?' || next == '{') {
      return cursor_.Error("a repetition of a repetition needs a group");
    }
    return Repeat(std::move(part), min, max);
  }

  // After a backslash; the characters it stands for.
  absl::StatusOr<Ranges> ParseEscape(bool in_class) {
    const size_t begin = cursor_.offset();
    cursor_.Skip();
    TANDEM_ASSIGN_OR_RETURN(const char32_t c, cursor_.TakeChar());
    const auto one = [](char32_t value) { return Ranges{{value, value}}; };
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Complement(Digits());
      case 'w':
        return WordChars();
      case 'W':
        return Complement(WordChars());
      case 's':
        return Spaces();
      case 'S':
        return Complement(Spaces());
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x': {
        TANDEM_ASSIGN_OR_RETURN(const char32_t value, cursor_.TakeHex(2));
        return one(value);
      }
      case 'u': {
        TANDEM_ASSIGN_OR_RETURN(const char32_t value, cursor_.TakeHex(4));
        return one(value);
      }
      default:
        break;
    }
    if (c < 0x80 && absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      return cursor_.ErrorAt(begin, in_class
                                        ? "this escape is not supported in a class"
                                        : "this escape is not supported (as back references, \\b and \\p are not)");
    }
    return one(c);
  }

  absl::StatusOr<Expr> ParseClass() {
    const size_t begin = cursor_.offset();
    cursor_.Skip();
    const bool negated = cursor_.Take("^");
    Ranges ranges;
    while (!cursor_.Take("]")) {
      if (cursor_.at_end()) return cursor_.ErrorAt(begin, "this class is not closed");
      const size_t from = cursor_.offset();
      TANDEM_ASSIGN_OR_RETURN(Ranges part, ParseClassPart());
      if (cursor_.Peek() == '-' && cursor_.Peek(1) != ']' && cursor_.Peek(1) != '\0') {
        cursor_.Skip();
        TANDEM_ASSIGN_OR_RETURN(const Ranges last, ParseClassPart());
        const auto is_char = [](const Ranges& r) { return r.size() == 1 && r[0].first == r[0].last; };
        if (!is_char(part) || !is_char(last)) return cursor_.ErrorAt(from, "a range needs a character at both ends");
        if (last[0].first < part[0].first) return cursor_.ErrorAt(from, "this range ends before it begins");
        part[0].last = last[0].last;
      }
      ranges.insert(ranges.end(), part.begin(), part.end());
    }
    return negated ? AllCharsBut(std::move(ranges)) : Chars(std::move(ranges));
  }

  absl::StatusOr<Ranges> ParseClassPart() {
    if (cursor_.Peek() == '\\') return ParseEscape(true);
    TANDEM_ASSIGN_OR_RETURN(const char32_t c, cursor_.TakeChar());
    return Ranges{{c, c}};
  }

  SourceCursor cursor_;
};

}  // namespace

absl::StatusOr<Expr> ParseRegex(absl::string_view pattern) { return Parser(pattern).Parse(); }

}  // namespace tandem::engine::grammar
