// The expressions of the template language.
#pragma once

#include "absl/status/statusor.h"
#include "engine/chat/ast.h"
#include "engine/chat/token_cursor.h"

namespace tandem::engine::jinja {

// Reads one expression at a cursor that it borrows. Errors: as ParseTemplate.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenCursor& cursor) : cursor_(cursor) {}

  absl::StatusOr<ExprPtr> Parse();       // with if-else
  absl::StatusOr<ExprPtr> ParseTuple();  // likewise, several with commas make a list
  absl::StatusOr<ExprPtr> ParseOr();     // without if-else, for the list of a `for`

 private:
  using Rule = absl::StatusOr<ExprPtr> (ExpressionParser::*)();

  absl::StatusOr<ExprPtr> ParseAnd();
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseSum();
  absl::StatusOr<ExprPtr> ParseConcat();
  absl::StatusOr<ExprPtr> ParseProduct();
  absl::StatusOr<ExprPtr> ParseUnary();  // with its filters and tests
  absl::StatusOr<ExprPtr> ParseSigned();
  absl::StatusOr<ExprPtr> ParsePrimary();
  absl::StatusOr<ExprPtr> ParseConstantOrName();
  absl::StatusOr<ExprPtr> ParseParenthesis();
  absl::StatusOr<ExprPtr> ParseListLiteral();
  absl::StatusOr<ExprPtr> ParseDictLiteral();
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr operand);
  absl::StatusOr<ExprPtr> ParseSubscript(ExprPtr operand);
  absl::StatusOr<ExprPtr> ParseFilters(ExprPtr operand);
  absl::StatusOr<ExprPtr> ParseTest(ExprPtr operand);
  absl::Status ParseArguments(Expr* call);
  // Operators of one precedence that group to the left. `ops` are operators or the names "and", "or".
  absl::StatusOr<ExprPtr> ParseLeft(Rule operand, std::initializer_list<absl::string_view> ops);
  // Adds `operand` and keeps the depth; refuses what gets too deep.
  absl::Status Attach(Expr* parent, ExprPtr operand);
  ExprPtr Make(ExprKind kind, absl::string_view name = "") const;

  TokenCursor& cursor_;
  int depth_ = 0;  // of the recursion
};

}  // namespace tandem::engine::jinja
