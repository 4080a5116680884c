// Template source to tokens. White space around tags is handled here, the way chat templates expect it (trim_blocks and
// lstrip_blocks on): the line break after a block or comment goes, and so do the blanks before one that starts a line;
// "-" inside a tag takes all white space on its side, "+" keeps it. One line break at the end of the source goes too.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine::jinja {

struct Position {
  int line = 1, column = 1;  // column counts bytes
};

// kInvalidArgument "line L, column C: message".
absl::Status ErrorAt(Position position, absl::string_view message);

enum class TokenKind {
  kText,         // text outside tags, as printed
  kOutputBegin,  // {{
  kOutputEnd,    // }}
  kBlockBegin,   // {%
  kBlockEnd,     // %}
  kName,
  kInteger,
  kFloat,
  kString,    // text: without quotes, escapes resolved
  kOperator,  // one of + - * ** / // % ~ | . , : ( ) [ ] { } = == != < <= > >=
  kEnd,       // of the source; always the last token
};

struct Token {
  TokenKind kind;
  std::string text;
  Position position;

  bool Is(TokenKind k, absl::string_view t) const { return kind == k && text == t; }
};

// Errors: kInvalidArgument with line and column (a tag or a string that does not end, an unknown character, brackets
// that do not match, a raw block that does not end).
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

}  // namespace tandem::engine::jinja
