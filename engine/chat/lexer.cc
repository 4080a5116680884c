#include "engine/chat/lexer.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine::jinja {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNameByte(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(source) {
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\n') line_starts_.push_back(i + 1);
    }
  }

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < source_.size()) {
      const size_t tag = FindTag(pos_);
      TakeText(tag);
      if (tag == source_.size()) break;
      const char kind = source_[tag + 1];
      if (kind == '#') {
        TANDEM_RETURN_IF_ERROR(SkipComment(tag));
      } else if (kind == '%' && SimpleTagEnd(tag, "raw") > 0) {
        TANDEM_RETURN_IF_ERROR(TakeRaw(tag));
      } else {
        TANDEM_RETURN_IF_ERROR(TakeTag(tag, kind == '%'));
      }
    }
    Push(TokenKind::kEnd, "", source_.size());
    return std::move(tokens_);
  }

 private:
  Position At(size_t offset) const {
    const auto it = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset) - 1;
    return {static_cast<int>(it - line_starts_.begin()) + 1, static_cast<int>(offset - *it) + 1};
  }
  void Push(TokenKind kind, std::string text, size_t offset) { tokens_.push_back({kind, std::move(text), At(offset)}); }

  // Offset of the next "{{", "{%" or "{#", or the size of the source.
  size_t FindTag(size_t from) const {
    for (size_t i = source_.find('{', from); i != absl::string_view::npos; i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    }
    return source_.size();
  }

  // The text between pos_ and the tag at `tag`, less the white space that the tags on either side take.
  void TakeText(size_t tag) {
    const size_t start = pos_;
    size_t end = tag;
    if (strip_next_) {
      while (pos_ < end && IsSpace(source_[pos_])) ++pos_;
    }
    if (tag < source_.size()) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      if (sign == '-') {
        while (end > pos_ && IsSpace(source_[end - 1])) --end;
      } else if (source_[tag + 1] != '{' && sign != '+') {
        size_t blanks = end;
        while (blanks > start && (source_[blanks - 1] == ' ' || source_[blanks - 1] == '\t')) --blanks;
        const bool starts_line = blanks > start ? source_[blanks - 1] == '\n' : line_starting_;
        if (starts_line) end = std::max(blanks, pos_);
      }
    }
    if (end > pos_) Push(TokenKind::kText, std::string(source_.substr(pos_, end - pos_)), pos_);
    pos_ = tag;
  }

  // What follows a tag that ended at pos_: `sign` is the "-" or "+" before its end, or another character.
  void EndTag(char sign, bool trims_line_break) {
    strip_next_ = sign == '-';
    line_starting_ = false;
    if (trims_line_break && sign != '-' && sign != '+' && pos_ < source_.size() && source_[pos_] == '\n') {
      ++pos_;
      line_starting_ = true;
    }
  }

  absl::Status SkipComment(size_t tag) {
    const size_t end = source_.find("#}", tag + 2);
    if (end == absl::string_view::npos) return ErrorAt(At(tag), "a comment {# does not end with #}");
    pos_ = end + 2;
    EndTag(end > tag + 2 ? source_[end - 1] : '\0', true);
    return absl::OkStatus();
  }

  // Where the block tag at `tag` ends if it holds just `name`, else 0.
  size_t SimpleTagEnd(size_t tag, absl::string_view name) const {
    size_t at = tag + 2;
    const auto skip_spaces = [&] {
      while (at < source_.size() && IsSpace(source_[at])) ++at;
    };
    const auto skip_sign = [&] {
      if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) ++at;
    };
    skip_sign();
    skip_spaces();
    if (source_.substr(at, name.size()) != name) return 0;
    at += name.size();
    skip_spaces();
    skip_sign();
    return source_.substr(std::min(at, source_.size()), 2) == "%}" ? at + 2 : 0;
  }

  // {% raw %} to {% endraw %}: everything between is text.
  absl::Status TakeRaw(size_t tag) {
    pos_ = SimpleTagEnd(tag, "raw");
    EndTag(source_[pos_ - 3], true);
    for (size_t end = source_.find("{%", pos_); end != absl::string_view::npos; end = source_.find("{%", end + 2)) {
      const size_t after = SimpleTagEnd(end, "endraw");
      if (after == 0) continue;
      TakeText(end);
      pos_ = after;
      EndTag(source_[after - 3], true);
      return absl::OkStatus();
    }
    return ErrorAt(At(tag), "{% raw %} does not end with {% endraw %}");
  }

  absl::Status TakeTag(size_t tag, bool block) {
    pos_ = tag + 2;
    if (pos_ < source_.size() && (source_[pos_] == '-' || source_[pos_] == '+')) ++pos_;
    Push(block ? TokenKind::kBlockBegin : TokenKind::kOutputBegin, "", tag);
    const absl::string_view close = block ? "%}" : "}}";
    std::vector<char> brackets;  // open ones; a }} inside a dict does not end the tag
    while (true) {
      while (pos_ < source_.size() && IsSpace(source_[pos_])) ++pos_;
      if (pos_ >= source_.size()) {
        return ErrorAt(At(tag), absl::StrCat("a tag ", block ? "{%" : "{{", " does not end with ", close));
      }
      const absl::string_view rest = source_.substr(pos_);
      if (brackets.empty()) {
        const char sign = rest[0];
        const size_t skip = sign == '-' || sign == '+' ? 1 : 0;
        if (rest.substr(skip, 2) == close) {
          Push(block ? TokenKind::kBlockEnd : TokenKind::kOutputEnd, "", pos_);
          pos_ += skip + 2;
          EndTag(skip == 1 ? sign : '\0', block);
          return absl::OkStatus();
        }
      }
      TANDEM_RETURN_IF_ERROR(TakeToken(&brackets));
    }
  }

  absl::Status TakeToken(std::vector<char>* brackets) {
    const char c = source_[pos_];
    if (IsNameStart(c)) {
      const size_t begin = pos_;
      while (pos_ < source_.size() && IsNameByte(source_[pos_])) ++pos_;
      Push(TokenKind::kName, std::string(source_.substr(begin, pos_ - begin)), begin);
      return absl::OkStatus();
    }
    if (IsDigit(c)) return TakeNumber();
    if (c == '"' || c == '\'') return TakeString(c);
    return TakeOperator(brackets);
  }

  absl::Status TakeNumber() {
    const size_t begin = pos_;
    const auto digits = [this] {
      while (pos_ < source_.size() && (IsDigit(source_[pos_]) || source_[pos_] == '_')) ++pos_;
    };
    digits();
    bool is_float = false;
    if (pos_ + 1 < source_.size() && source_[pos_] == '.' && IsDigit(source_[pos_ + 1])) {
      is_float = true;
      ++pos_;
      digits();
    }
    if (pos_ < source_.size() && (source_[pos_] == 'e' || source_[pos_] == 'E')) {
      size_t exponent = pos_ + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && IsDigit(source_[exponent])) {
        is_float = true;
        pos_ = exponent;
        digits();
      }
    }
    std::string text = absl::StrReplaceAll(source_.substr(begin, pos_ - begin), {{"_", ""}});
    Push(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text), begin);
    return absl::OkStatus();
  }

  absl::Status TakeString(char quote) {
    const size_t begin = pos_++;
    std::string text;
    while (pos_ < source_.size() && source_[pos_] != quote) {
      if (source_[pos_] != '\\') {
        text.push_back(source_[pos_++]);
      } else {
        TANDEM_RETURN_IF_ERROR(TakeEscape(&text));
      }
    }
    if (pos_ >= source_.size()) return ErrorAt(At(begin), "a string does not end");
    ++pos_;
    Push(TokenKind::kString, std::move(text), begin);
    return absl::OkStatus();
  }

  // pos_ is at the backslash.
  absl::Status TakeEscape(std::string* text) {
    const size_t begin = pos_;
    if (pos_ + 1 >= source_.size()) return ErrorAt(At(begin), "a string does not end");
    const char c = source_[pos_ + 1];
    pos_ += 2;
    constexpr absl::string_view kNames = "nrtbf0\\'\"";
    constexpr absl::string_view kMeanings("\n\r\t\b\f\0\\'\"", 9);
    if (const size_t index = kNames.find(c); index != absl::string_view::npos) {
      text->push_back(kMeanings[index]);
      return absl::OkStatus();
    }
    if (c == '\n') return absl::OkStatus();
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {  // as Python: an unknown escape stays as it is
      text->push_back('\\');
      text->push_back(c);
      return absl::OkStatus();
    }
    uint32_t code_point = 0;
    const absl::string_view hex = source_.substr(std::min(pos_, source_.size()), digits);
    const bool all_hex =
        std::all_of(hex.begin(), hex.end(), [](char h) { return absl::ascii_isxdigit(static_cast<unsigned char>(h)); });
    if (hex.size() != digits || !all_hex || !absl::SimpleHexAtoi(hex, &code_point) || code_point > 0x10FFFF ||
        (code_point >= 0xD800 && code_point <= 0xDFFF)) {
      return ErrorAt(At(begin), absl::StrCat("\\", std::string(1, c), " must be followed by ", digits,
                                             " hexadecimal digits of a character"));
    }
    AppendUtf8(code_point, text);
    pos_ += digits;
    return absl::OkStatus();
  }

  absl::Status TakeOperator(std::vector<char>* brackets) {
    constexpr absl::string_view kLong[] = {"**", "//", "==", "!=", "<=", ">="};
    constexpr absl::string_view kShort = "+-*/%~|.,:()[]{}=<>";
    const size_t begin = pos_;
    const absl::string_view rest = source_.substr(pos_);
    for (const absl::string_view op : kLong) {
      if (rest.substr(0, 2) == op) {
        pos_ += 2;
        Push(TokenKind::kOperator, std::string(op), begin);
        return absl::OkStatus();
      }
    }
    const char c = rest[0];
    if (kShort.find(c) == absl::string_view::npos) {
      return ErrorAt(At(begin), absl::StrCat("unexpected character \"", rest.substr(0, NextUtf8(rest).bytes), "\""));
    }
    if (c == '(' || c == '[' || c == '{') brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (brackets->empty() || brackets->back() != c) {
        return ErrorAt(At(begin), absl::StrCat("\"", std::string(1, c), "\" closes nothing"));
      }
      brackets->pop_back();
    }
    ++pos_;
    Push(TokenKind::kOperator, std::string(1, c), begin);
    return absl::OkStatus();
  }

  const absl::string_view source_;
  std::vector<size_t> line_starts_ = {0};
  size_t pos_ = 0;
  bool strip_next_ = false;    // the tag before took the white space that follows
  bool line_starting_ = true;  // the text at pos_ begins a line
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status ErrorAt(Position position, absl::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat("chat template, line ", position.line, ", column ", position.column, ": ", message));
}

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  const std::string normalized = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  return Lexer(absl::StripSuffix(normalized, "\n")).Run();
}

}  // namespace tandem::engine::jinja
