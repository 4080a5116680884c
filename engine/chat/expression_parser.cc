#include "engine/chat/expression_parser.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"

namespace tandem::engine::jinja {
namespace {

absl::Status TooDeep(Position position) {
  return ErrorAt(position, absl::StrCat("the expression nests deeper than ", kMaxNodeDepth, " levels"));
}

// Counts a level of recursion while it lives.
class DepthGuard {
 public:
  explicit DepthGuard(int& depth) : depth_(depth) { ++depth_; }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

}  // namespace

ExprPtr ExpressionParser::Make(ExprKind kind, absl::string_view name) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->name = std::string(name);
  expr->position = cursor_.current().position;
  return expr;
}

absl::Status ExpressionParser::Attach(Expr* parent, ExprPtr operand) {
  if (operand != nullptr) parent->depth = std::max(parent->depth, operand->depth + 1);
  if (parent->depth > kMaxNodeDepth) return TooDeep(parent->position);
  parent->operands.push_back(std::move(operand));
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::Parse() {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxNodeDepth) return TooDeep(cursor_.current().position);
  TANDEM_ASSIGN_OR_RETURN(ExprPtr value, ParseOr());
  while (cursor_.AtName("if")) {
    ExprPtr conditional = Make(ExprKind::kConditional);
    cursor_.Advance();
    TANDEM_ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    TANDEM_RETURN_IF_ERROR(Attach(conditional.get(), std::move(value)));
    TANDEM_RETURN_IF_ERROR(Attach(conditional.get(), std::move(condition)));
    if (cursor_.TakeName("else")) {
      TANDEM_ASSIGN_OR_RETURN(ExprPtr otherwise, Parse());
      TANDEM_RETURN_IF_ERROR(Attach(conditional.get(), std::move(otherwise)));
    }
    value = std::move(conditional);
  }
  return value;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTuple() {
  TANDEM_ASSIGN_OR_RETURN(ExprPtr first, Parse());
  if (!cursor_.AtOperator(",")) return first;
  ExprPtr list = Make(ExprKind::kList);
  TANDEM_RETURN_IF_ERROR(Attach(list.get(), std::move(first)));
  while (cursor_.TakeOperator(",")) {
    if (cursor_.AtOperator(")") || cursor_.At(TokenKind::kBlockEnd) || cursor_.At(TokenKind::kOutputEnd)) break;
    TANDEM_ASSIGN_OR_RETURN(ExprPtr item, Parse());
    TANDEM_RETURN_IF_ERROR(Attach(list.get(), std::move(item)));
  }
  return list;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseLeft(Rule operand, std::initializer_list<absl::string_view> ops) {
  TANDEM_ASSIGN_OR_RETURN(ExprPtr left, (this->*operand)());
  while (true) {
    const Token& token = cursor_.current();
    const bool matches = (token.kind == TokenKind::kOperator || token.kind == TokenKind::kName) &&
                         std::find(ops.begin(), ops.end(), token.text) != ops.end();
    if (!matches) return left;
    ExprPtr binary = Make(ExprKind::kBinary, token.text);
    cursor_.Advance();
    TANDEM_ASSIGN_OR_RETURN(ExprPtr right, (this->*operand)());
    TANDEM_RETURN_IF_ERROR(Attach(binary.get(), std::move(left)));
    TANDEM_RETURN_IF_ERROR(Attach(binary.get(), std::move(right)));
    left = std::move(binary);
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseOr() { return ParseLeft(&ExpressionParser::ParseAnd, {"or"}); }
absl::StatusOr<ExprPtr> ExpressionParser::ParseAnd() { return ParseLeft(&ExpressionParser::ParseNot, {"and"}); }
absl::StatusOr<ExprPtr> ExpressionParser::ParseSum() { return ParseLeft(&ExpressionParser::ParseConcat, {"+", "-"}); }
absl::StatusOr<ExprPtr> ExpressionParser::ParseConcat() { return ParseLeft(&ExpressionParser::ParseProduct, {"~"}); }
absl::StatusOr<ExprPtr> ExpressionParser::ParseProduct() {
  return ParseLeft(&ExpressionParser::ParseUnary, {"*", "/", "//", "%"});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxNodeDepth) return TooDeep(cursor_.current().position);
  if (!cursor_.AtName("not")) return ParseCompare();
  ExprPtr negation = Make(ExprKind::kUnary, "not");
  cursor_.Advance();
  TANDEM_ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  TANDEM_RETURN_IF_ERROR(Attach(negation.get(), std::move(operand)));
  return negation;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCompare() {
  TANDEM_ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  ExprPtr compare;
  while (true) {
    absl::string_view op;
    for (const absl::string_view symbol : {"==", "!=", "<", "<=", ">", ">="}) {
      if (cursor_.AtOperator(symbol)) op = symbol;
    }
    if (cursor_.AtName("in")) op = "in";
    const bool not_in = cursor_.AtName("not") && cursor_.next().Is(TokenKind::kName, "in");
    if (not_in) op = "not in";
    if (op.empty()) return compare == nullptr ? std::move(first) : std::move(compare);
    if (compare == nullptr) {
      compare = Make(ExprKind::kCompare);
      TANDEM_RETURN_IF_ERROR(Attach(compare.get(), std::move(first)));
    }
    cursor_.Advance();
    if (not_in) cursor_.Advance();
    compare->operators.emplace_back(op);
    TANDEM_ASSIGN_OR_RETURN(ExprPtr operand, ParseSum());
    TANDEM_RETURN_IF_ERROR(Attach(compare.get(), std::move(operand)));
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnary() {
  TANDEM_ASSIGN_OR_RETURN(ExprPtr operand, ParseSigned());
  if (cursor_.AtOperator("**")) return ErrorAt(cursor_.current().position, "the operator ** is not supported");
  return ParseFilters(std::move(operand));  // of the signed value: -2 | abs is 2
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSigned() {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxNodeDepth) return TooDeep(cursor_.current().position);
  if (cursor_.AtOperator("-")) {
    ExprPtr negation = Make(ExprKind::kUnary, "-");
    cursor_.Advance();
    TANDEM_ASSIGN_OR_RETURN(ExprPtr operand, ParseSigned());
    TANDEM_RETURN_IF_ERROR(Attach(negation.get(), std::move(operand)));
    return negation;
  }
  TANDEM_ASSIGN_OR_RETURN(ExprPtr primary, ParsePrimary());
  return ParsePostfix(std::move(primary));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePrimary() {
  if (cursor_.AtOperator("(")) return ParseParenthesis();
  if (cursor_.AtOperator("[")) return ParseListLiteral();
  if (cursor_.AtOperator("{")) return ParseDictLiteral();
  return ParseConstantOrName();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseConstantOrName() {
  ExprPtr expr = Make(ExprKind::kLiteral);
  const Token token = cursor_.current();
  switch (token.kind) {
    case TokenKind::kString: {
      std::string text;  // neighbouring strings are one
      for (; cursor_.At(TokenKind::kString); cursor_.Advance()) text += cursor_.current().text;
      expr->value = Value::String(std::move(text));
      return expr;
    }
    case TokenKind::kInteger: {
      int64_t value = 0;
      if (!absl::SimpleAtoi(token.text, &value)) {
        return ErrorAt(token.position, absl::StrCat("the number ", token.text, " does not fit 64 bits"));
      }
      expr->value = Value::Int(value);
      break;
    }
    case TokenKind::kFloat: {
      double value = 0;
      if (!absl::SimpleAtod(token.text, &value)) {
        return ErrorAt(token.position, absl::StrCat("\"", token.text, "\" is not a number"));
      }
      expr->value = Value::Float(value);
      break;
    }
    case TokenKind::kName:
      if (token.text == "true" || token.text == "True") {
        expr->value = Value::Bool(true);
      } else if (token.text == "false" || token.text == "False") {
        expr->value = Value::Bool(false);
      } else if (token.text == "none" || token.text == "None") {
        expr->value = Value::MakeNone();
      } else {
        expr->kind = ExprKind::kName;
        expr->name = token.text;
      }
      break;
    default:
      return cursor_.Unexpected("an expression");
  }
  cursor_.Advance();
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseParenthesis() {
  ExprPtr empty = Make(ExprKind::kList);
  cursor_.Advance();
  if (cursor_.TakeOperator(")")) return empty;
  TANDEM_ASSIGN_OR_RETURN(ExprPtr inner, ParseTuple());
  TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(")"));
  return inner;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseListLiteral() {
  ExprPtr list = Make(ExprKind::kList);
  cursor_.Advance();
  while (!cursor_.TakeOperator("]")) {
    if (!list->operands.empty()) {
      TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(","));
      if (cursor_.TakeOperator("]")) break;
    }
    TANDEM_ASSIGN_OR_RETURN(ExprPtr item, Parse());
    TANDEM_RETURN_IF_ERROR(Attach(list.get(), std::move(item)));
  }
  return list;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseDictLiteral() {
  ExprPtr dict = Make(ExprKind::kDict);
  cursor_.Advance();
  while (!cursor_.TakeOperator("}")) {
    if (!dict->operands.empty()) {
      TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(","));
      if (cursor_.TakeOperator("}")) break;
    }
    TANDEM_ASSIGN_OR_RETURN(ExprPtr key, Parse());
    TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(":"));
    TANDEM_ASSIGN_OR_RETURN(ExprPtr value, Parse());
    TANDEM_RETURN_IF_ERROR(Attach(dict.get(), std::move(key)));
    TANDEM_RETURN_IF_ERROR(Attach(dict.get(), std::move(value)));
  }
  return dict;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr operand) {
  while (true) {
    if (cursor_.AtOperator(".")) {
      ExprPtr attribute = Make(ExprKind::kAttribute);
      cursor_.Advance();
      if (!cursor_.At(TokenKind::kName) && !cursor_.At(TokenKind::kInteger)) return cursor_.Unexpected("a name");
      attribute->name = cursor_.current().text;
      cursor_.Advance();
      TANDEM_RETURN_IF_ERROR(Attach(attribute.get(), std::move(operand)));
      operand = std::move(attribute);
    } else if (cursor_.AtOperator("[")) {
      TANDEM_ASSIGN_OR_RETURN(operand, ParseSubscript(std::move(operand)));
    } else if (cursor_.AtOperator("(")) {
      ExprPtr call = Make(ExprKind::kCall);
      TANDEM_RETURN_IF_ERROR(Attach(call.get(), std::move(operand)));
      TANDEM_RETURN_IF_ERROR(ParseArguments(call.get()));
      operand = std::move(call);
    } else {
      return operand;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr operand) {
  ExprPtr subscript = Make(ExprKind::kSubscript);
  cursor_.Advance();
  TANDEM_RETURN_IF_ERROR(Attach(subscript.get(), std::move(operand)));
  for (int part = 0; part < 3; ++part) {
    ExprPtr bound;
    if (!cursor_.AtOperator(":") && !cursor_.AtOperator("]")) {
      TANDEM_ASSIGN_OR_RETURN(bound, Parse());
    }
    TANDEM_RETURN_IF_ERROR(Attach(subscript.get(), std::move(bound)));
    if (!cursor_.TakeOperator(":")) break;
    subscript->kind = ExprKind::kSlice;
  }
  if (subscript->kind == ExprKind::kSubscript && subscript->operands[1] == nullptr) {
    return cursor_.Unexpected("an expression");
  }
  if (subscript->kind == ExprKind::kSlice) subscript->operands.resize(4);
  TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator("]"));
  return subscript;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseFilters(ExprPtr operand) {
  while (true) {
    if (cursor_.TakeOperator("|")) {
      ExprPtr filter = Make(ExprKind::kFilter);
      filter->name = cursor_.current().text;
      TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a filter"));
      TANDEM_RETURN_IF_ERROR(Attach(filter.get(), std::move(operand)));
      if (cursor_.AtOperator("(")) TANDEM_RETURN_IF_ERROR(ParseArguments(filter.get()));
      operand = std::move(filter);
    } else if (cursor_.TakeName("is")) {
      TANDEM_ASSIGN_OR_RETURN(operand, ParseTest(std::move(operand)));
    } else {
      return operand;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTest(ExprPtr operand) {
  ExprPtr test = Make(ExprKind::kTest);
  test->negated = cursor_.TakeName("not");
  test->name = cursor_.current().text;
  TANDEM_RETURN_IF_ERROR(cursor_.Expect(TokenKind::kName, "the name of a test"));
  TANDEM_RETURN_IF_ERROR(Attach(test.get(), std::move(operand)));
  if (cursor_.AtOperator("(")) {
    TANDEM_RETURN_IF_ERROR(ParseArguments(test.get()));
    return test;
  }
  // One argument may follow without parentheses.
  const bool constant =
      cursor_.At(TokenKind::kString) || cursor_.At(TokenKind::kInteger) || cursor_.At(TokenKind::kFloat);
  const bool keyword = cursor_.AtName("and") || cursor_.AtName("or") || cursor_.AtName("else") ||
                       cursor_.AtName("if") || cursor_.AtName("is") || cursor_.AtName("in") || cursor_.AtName("not") ||
                       cursor_.AtName("recursive");
  if (constant || cursor_.AtOperator("[") || (cursor_.At(TokenKind::kName) && !keyword)) {
    TANDEM_ASSIGN_OR_RETURN(ExprPtr primary, ParsePrimary());
    TANDEM_ASSIGN_OR_RETURN(ExprPtr argument, ParsePostfix(std::move(primary)));
    TANDEM_RETURN_IF_ERROR(Attach(test.get(), std::move(argument)));
  }
  return test;
}

absl::Status ExpressionParser::ParseArguments(Expr* call) {
  TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator("("));
  bool first = true;
  while (!cursor_.TakeOperator(")")) {
    if (!first) {
      TANDEM_RETURN_IF_ERROR(cursor_.ExpectOperator(","));
      if (cursor_.TakeOperator(")")) break;
    }
    first = false;
    if (cursor_.At(TokenKind::kName) && cursor_.next().Is(TokenKind::kOperator, "=")) {
      std::string name = cursor_.current().text;
      cursor_.Advance();
      cursor_.Advance();
      TANDEM_ASSIGN_OR_RETURN(ExprPtr value, Parse());
      call->depth = std::max(call->depth, value->depth + 1);
      if (call->depth > kMaxNodeDepth) return TooDeep(call->position);
      call->keywords.emplace_back(std::move(name), std::move(value));
    } else if (!call->keywords.empty()) {
      return cursor_.Unexpected("a keyword argument");
    } else {
      TANDEM_ASSIGN_OR_RETURN(ExprPtr value, Parse());
      TANDEM_RETURN_IF_ERROR(Attach(call, std::move(value)));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine::jinja
