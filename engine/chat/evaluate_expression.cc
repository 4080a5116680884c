// The half of Evaluator that computes values.
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/chat/builtins.h"
#include "engine/chat/evaluator.h"
#include "engine/chat/operators.h"

namespace tandem::engine::jinja {

absl::StatusOr<Value> Evaluator::EvaluateNode(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kLiteral:
      return expr.value;
    case ExprKind::kName:
      return Lookup(expr.name);
    case ExprKind::kList:
    case ExprKind::kDict:
      return EvaluateContainer(expr);
    case ExprKind::kUnary:
      return EvaluateUnary(expr);
    case ExprKind::kBinary:
      return EvaluateBinary(expr);
    case ExprKind::kCompare:
      return EvaluateCompare(expr);
    case ExprKind::kConditional:
      return EvaluateConditional(expr);
    case ExprKind::kAttribute: {
      TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(*expr.operands[0]));
      return Attribute(object, expr.name);
    }
    case ExprKind::kSubscript: {
      TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(*expr.operands[0]));
      TANDEM_ASSIGN_OR_RETURN(const Value key, Evaluate(*expr.operands[1]));
      return Subscript(object, key, &budget_);
    }
    case ExprKind::kSlice:
      return EvaluateSlice(expr);
    case ExprKind::kCall:
      return EvaluateCall(expr);
    case ExprKind::kFilter: {
      TANDEM_ASSIGN_OR_RETURN(const Value input, Evaluate(*expr.operands[0]));
      TANDEM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
      return ApplyFilter(expr.name, input, arguments, &budget_);
    }
    case ExprKind::kTest: {
      TANDEM_ASSIGN_OR_RETURN(const Value input, Evaluate(*expr.operands[0]));
      TANDEM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
      TANDEM_ASSIGN_OR_RETURN(const bool passes, ApplyTest(expr.name, input, arguments, &budget_));
      return Value::Bool(passes != expr.negated);
    }
  }
  return absl::InternalError("unknown kind of expression");
}

absl::StatusOr<Value> Evaluator::EvaluateContainer(const Expr& expr) {
  std::vector<Value> values;
  for (const ExprPtr& operand : expr.operands) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(*operand));
    values.push_back(std::move(value));
  }
  TANDEM_RETURN_IF_ERROR(budget_.Bytes(values.size() * sizeof(Value)));
  if (expr.kind == ExprKind::kList) return Value::MakeList(std::move(values));
  std::vector<std::pair<std::string, Value>> entries;
  for (size_t i = 0; i < values.size(); i += 2) {
    const std::string* key = values[i].if_string();
    if (key == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("a ", values[i].TypeName(), " as the key of a dict is not supported"));
    }
    entries.emplace_back(*key, std::move(values[i + 1]));
  }
  return Value::MakeDict(std::move(entries));
}

absl::StatusOr<Value> Evaluator::EvaluateUnary(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value operand, Evaluate(*expr.operands[0]));
  return expr.name == "not" ? Value::Bool(!operand.Truthy()) : Negate(operand);
}

absl::StatusOr<Value> Evaluator::EvaluateBinary(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(Value left, Evaluate(*expr.operands[0]));
  // As in Python, `and` and `or` give one of their operands and look at the second only if they must.
  if (expr.name == "and" || expr.name == "or") {
    if (left.Truthy() == (expr.name == "or")) return left;
    return Evaluate(*expr.operands[1]);
  }
  TANDEM_ASSIGN_OR_RETURN(const Value right, Evaluate(*expr.operands[1]));
  return BinaryOperator(expr.name, left, right, &budget_);
}

absl::StatusOr<Value> Evaluator::EvaluateCompare(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(Value left, Evaluate(*expr.operands[0]));
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Value right, Evaluate(*expr.operands[i + 1]));
    TANDEM_ASSIGN_OR_RETURN(const bool holds, CompareOperator(expr.operators[i], left, right, &budget_));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Evaluator::EvaluateConditional(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(*expr.operands[1]));
  if (condition.Truthy()) return Evaluate(*expr.operands[0]);
  if (expr.operands.size() == 3) return Evaluate(*expr.operands[2]);
  return Value::UndefinedNamed("the missing else of an if expression");
}

absl::StatusOr<Value> Evaluator::EvaluateSlice(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(*expr.operands[0]));
  Value bounds[3] = {Value::MakeNone(), Value::MakeNone(), Value::MakeNone()};
  for (int i = 0; i < 3; ++i) {
    if (expr.operands[i + 1] == nullptr) continue;
    TANDEM_ASSIGN_OR_RETURN(bounds[i], Evaluate(*expr.operands[i + 1]));
  }
  return Slice(object, bounds[0], bounds[1], bounds[2], &budget_);
}

absl::StatusOr<Value> Evaluator::EvaluateCall(const Expr& expr) {
  const Expr& callee = *expr.operands[0];
  if (callee.kind == ExprKind::kAttribute) {
    TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(*callee.operands[0]));
    TANDEM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
    return CallMethod(object, callee.name, arguments, &budget_);
  }
  TANDEM_ASSIGN_OR_RETURN(const Value function, Evaluate(callee));
  TANDEM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
  if (const Macro* macro = function.if_macro()) return CallMacro(*macro, arguments);
  if (const Function* builtin = function.if_function()) return CallFunction(*builtin, arguments);
  const std::string name = callee.kind == ExprKind::kName ? absl::StrCat("\"", callee.name, "\"") : "this";
  return absl::InvalidArgumentError(absl::StrCat(name, " is a ", function.TypeName(), " and cannot be called"));
}

absl::StatusOr<Arguments> Evaluator::EvaluateArguments(const Expr& expr) {
  Arguments arguments;
  for (size_t i = 1; i < expr.operands.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(*expr.operands[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, operand] : expr.keywords) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(*operand));
    arguments.keywords.emplace_back(name, std::move(value));
  }
  return arguments;
}

}  // namespace tandem::engine::jinja
