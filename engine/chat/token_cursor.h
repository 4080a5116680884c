// A place in the tokens of a template, shared by the two parsers.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/chat/lexer.h"

namespace tandem::engine::jinja {

class TokenCursor {
 public:
  explicit TokenCursor(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[index_]; }
  const Token& next() const { return tokens_[std::min(index_ + 1, tokens_.size() - 1)]; }
  void Advance() {
    if (index_ + 1 < tokens_.size()) ++index_;
  }

  bool At(TokenKind kind) const { return current().kind == kind; }
  bool AtName(absl::string_view name) const { return current().Is(TokenKind::kName, name); }
  bool AtOperator(absl::string_view op) const { return current().Is(TokenKind::kOperator, op); }
  bool TakeName(absl::string_view name) { return Take(AtName(name)); }
  bool TakeOperator(absl::string_view op) { return Take(AtOperator(op)); }

  absl::Status Expect(TokenKind kind, absl::string_view description) {
    if (!Take(At(kind))) return Unexpected(description);
    return absl::OkStatus();
  }
  absl::Status ExpectOperator(absl::string_view op) {
    if (!TakeOperator(op)) return Unexpected(absl::StrCat("\"", op, "\""));
    return absl::OkStatus();
  }
  // "expected X, found Y" at the current token.
  absl::Status Unexpected(absl::string_view expected) const {
    const Token& token = current();
    const bool spelled = token.kind == TokenKind::kName || token.kind == TokenKind::kOperator ||
                         token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat;
    const std::string found = spelled                            ? absl::StrCat("\"", token.text, "\"")
                              : token.kind == TokenKind::kString ? "a string"
                              : token.kind == TokenKind::kText   ? "text"
                              : token.kind == TokenKind::kEnd    ? "the end of the template"
                                                                 : "the border of a tag";
    return ErrorAt(token.position, absl::StrCat("expected ", expected, ", found ", found));
  }

 private:
  bool Take(bool matches) {
    if (matches) Advance();
    return matches;
  }

  std::vector<Token> tokens_;  // ends with kEnd
  size_t index_ = 0;
};

}  // namespace tandem::engine::jinja
