#include "engine/grammar/gbnf_parser.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/source_cursor.h"

namespace tandem::engine::grammar {
namespace {

constexpr int kMaxChainedRepeats = 4;

bool IsNameChar(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; }

class Parser {
 public:
  explicit Parser(absl::string_view text) : cursor_(text) {}

  absl::StatusOr<RuleSet> Parse() {
    RuleNumber("root");
    SkipSpace(/*newlines=*/true);
    while (!cursor_.at_end()) {
      TANDEM_RETURN_IF_ERROR(ParseRule());
      SkipSpace(/*newlines=*/true);
    }
    for (const auto& [name, symbol] : symbols_) {
      if (symbol.defined) continue;
      if (name == "root") return cursor_.Error("the rule \"root\" is missing: a match begins with it");
      return cursor_.ErrorAt(symbol.first_use, absl::StrCat("the rule \"", name, "\" is used but not defined"));
    }
    return std::move(rules_);
  }

 private:
  struct Symbol {
    int32_t number;
    size_t first_use;
    bool defined = false;
  };

  int32_t RuleNumber(absl::string_view name) {
    const auto [it, added] = symbols_.try_emplace(
        std::string(name), Symbol{static_cast<int32_t>(rules_.rules.size()), cursor_.offset() - name.size()});
    if (added) rules_.rules.push_back({});
    return it->second.number;
  }

  void SkipSpace(bool newlines) {
    while (!cursor_.at_end()) {
      const char c = cursor_.Peek();
      if (c == '#') {
        while (!cursor_.at_end() && cursor_.Peek() != '\n' && cursor_.Peek() != '\r') cursor_.Skip();
      } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
        cursor_.Skip();
      } else {
        return;
      }
    }
  }

  absl::StatusOr<absl::string_view> ParseName() {
    const size_t begin = cursor_.offset();
    while (!cursor_.at_end() && IsNameChar(cursor_.Peek())) cursor_.Skip();
    if (cursor_.offset() == begin) return cursor_.Error("the name of a rule is expected (letters, digits, - and _)");
    return cursor_.Since(begin);
  }

  absl::Status ParseRule() {
    const size_t begin = cursor_.offset();
    TANDEM_ASSIGN_OR_RETURN(const absl::string_view name, ParseName());
    const int32_t number = RuleNumber(name);
    if (rules_.rules.size() > kMaxRules) return cursor_.Error(absl::StrCat("more than ", kMaxRules, " rules"));
    Symbol& symbol = symbols_[std::string(name)];
    if (symbol.defined) return cursor_.ErrorAt(begin, absl::StrCat("the rule \"", name, "\" is defined twice"));
    symbol.defined = true;
    SkipSpace(false);
    if (!cursor_.Take("::=")) return cursor_.Error("\"::=\" is expected after the name of a rule");
    SkipSpace(true);
    TANDEM_ASSIGN_OR_RETURN(Expr body, ParseChoice(0));
    rules_.rules[number] = {absl::StrCat("rule \"", name, "\" (", cursor_.Place(begin), ")"), std::move(body)};
    if (!cursor_.at_end() && cursor_.Peek() != '\n' && cursor_.Peek() != '\r') {
      return cursor_.Error("the end of the line or one of | * + ? { ( [ \" . is expected");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Expr> ParseChoice(int depth) {
    if (depth > kMaxExprDepth) return cursor_.Error(absl::StrCat("more than ", kMaxExprDepth, " nested parentheses"));
    std::vector<Expr> choices;
    while (true) {
      TANDEM_ASSIGN_OR_RETURN(Expr sequence, ParseSequence(depth));
      choices.push_back(std::move(sequence));
      const SourceCursor here = cursor_;
      SkipSpace(true);
      if (!cursor_.Take("|")) {
        if (depth == 0) cursor_ = here;
        return Choice(std::move(choices));
      }
      SkipSpace(true);
    }
  }

  absl::StatusOr<Expr> ParseSequence(int depth) {
    std::vector<Expr> parts;
    while (true) {
      SkipSpace(/*newlines=*/depth > 0);
      const size_t begin = cursor_.offset();
      const char c = cursor_.Peek();
      Expr part;
      if (c == '"') {
        TANDEM_ASSIGN_OR_RETURN(part, ParseLiteral());
      } else if (c == '[') {
        TANDEM_ASSIGN_OR_RETURN(part, ParseClass());
      } else if (c == '.') {
        cursor_.Take(".");
        part = AllCharsBut({});
      } else if (c == '(') {
        cursor_.Take("(");
        SkipSpace(true);
        TANDEM_ASSIGN_OR_RETURN(part, ParseChoice(depth + 1));
        if (!cursor_.Take(")")) return cursor_.ErrorAt(begin, "this parenthesis is not closed");
      } else if (IsNameChar(c) && !cursor_.at_end()) {
        TANDEM_ASSIGN_OR_RETURN(const absl::string_view name, ParseName());
        part = RuleRef(RuleNumber(name));
      } else {
        return Sequence(std::move(parts));
      }
      TANDEM_ASSIGN_OR_RETURN(part, ParseRepeats(std::move(part)));
      parts.push_back(std::move(part));
    }
  }

  absl::StatusOr<Expr> ParseRepeats(Expr part) {
    // Each adds a level to the tree.
    for (int count = 0; count <= kMaxChainedRepeats; ++count) {
      SkipSpace(false);
      if (cursor_.Take("*")) {
        part = Repeat(std::move(part), 0, kUnbounded);
      } else if (cursor_.Take("+")) {
        part = Repeat(std::move(part), 1, kUnbounded);
      } else if (cursor_.Take("?")) {
        part = Optional(std::move(part));
      } else if (cursor_.Take("{")) {
        TANDEM_ASSIGN_OR_RETURN(part, ParseBounds(std::move(part)));
      } else {
        return part;
      }
    }
    return cursor_.Error(absl::StrCat("more than ", kMaxChainedRepeats, " repetitions of one another"));
  }

  absl::StatusOr<Expr> ParseBounds(Expr part) {
    SkipSpace(false);
    int32_t min = 0;
    const size_t begin = cursor_.offset();
    if (cursor_.Peek() != ',') {
      TANDEM_ASSIGN_OR_RETURN(min, cursor_.TakeNumber("repetition count", kMaxRepeat));
    }
    SkipSpace(false);
    int32_t max = min;
    if (cursor_.Take(",")) {
      SkipSpace(false);
      max = kUnbounded;
      if (cursor_.Peek() != '}') {
        TANDEM_ASSIGN_OR_RETURN(max, cursor_.TakeNumber("repetition count", kMaxRepeat));
      }
      SkipSpace(false);
    }
    if (!cursor_.Take("}")) return cursor_.Error("\"}\" is expected after the counts of a repetition");
    if (max != kUnbounded && max < min) {
      return cursor_.ErrorAt(begin, absl::StrCat("the repetition is {", min, ",", max,
                                                 "}; the first count must not be ", "above the second"));
    }
    return Repeat(std::move(part), min, max);
  }

  // One character of a literal or class.
  absl::StatusOr<char32_t> ParseChar() {
    if (!cursor_.Take("\\")) return cursor_.TakeChar();
    const size_t begin = cursor_.offset();
    TANDEM_ASSIGN_OR_RETURN(const char32_t c, cursor_.TakeChar());
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'x':
        return cursor_.TakeHex(2);
      case 'u':
        return cursor_.TakeHex(4);
      case 'U':
        return cursor_.TakeHex(8);
      case '"':
      case '\\':
      case '[':
      case ']':
      case '-':
      case '^':
        return c;
      default:
        return cursor_.ErrorAt(begin,
                               "unknown escape; known are \\n \\r \\t \\\" \\\\ \\[ \\] \\- \\^ \\xHH \\uHHHH "
                               "\\UHHHHHHHH");
    }
  }

  absl::StatusOr<Expr> ParseLiteral() {
    const size_t begin = cursor_.offset();
    cursor_.Take("\"");
    std::vector<Expr> chars;
    while (!cursor_.Take("\"")) {
      if (cursor_.at_end() || cursor_.Peek() == '\n') return cursor_.ErrorAt(begin, "this literal is not closed");
      TANDEM_ASSIGN_OR_RETURN(const char32_t c, ParseChar());
      chars.push_back(Chars({{c, c}}));
    }
    return Sequence(std::move(chars));
  }

  absl::StatusOr<Expr> ParseClass() {
    const size_t begin = cursor_.offset();
    cursor_.Take("[");
    const bool negated = cursor_.Take("^");
    std::vector<CharRange> ranges;
    while (!cursor_.Take("]")) {
      if (cursor_.at_end() || cursor_.Peek() == '\n') return cursor_.ErrorAt(begin, "this class is not closed");
      const size_t from = cursor_.offset();
      TANDEM_ASSIGN_OR_RETURN(const char32_t first, ParseChar());
      char32_t last = first;
      if (cursor_.Peek() == '-' && cursor_.Peek(1) != ']') {
        cursor_.Take("-");
        if (cursor_.at_end()) return cursor_.ErrorAt(begin, "this class is not closed");
        TANDEM_ASSIGN_OR_RETURN(last, ParseChar());
      }
      if (last < first) return cursor_.ErrorAt(from, "this range ends before it begins");
      ranges.push_back({first, last});
    }
    if (ranges.empty() && !negated) return cursor_.ErrorAt(begin, "this class has no character, so nothing can match");
    return negated ? AllCharsBut(std::move(ranges)) : Chars(std::move(ranges));
  }

  SourceCursor cursor_;
  RuleSet rules_;
  absl::flat_hash_map<std::string, Symbol> symbols_;
};

}  // namespace

absl::StatusOr<RuleSet> ParseGbnf(absl::string_view text) {
  if (text.size() > kMaxGrammarBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the grammar has ", text.size(), " bytes; the limit is ", kMaxGrammarBytes));
  }
  return Parser(text).Parse();
}

}  // namespace tandem::engine::grammar
