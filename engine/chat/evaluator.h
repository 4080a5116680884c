// Renders a parsed template.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "engine/chat/arguments.h"
#include "engine/chat/ast.h"
#include "engine/chat/budget.h"

namespace tandem::engine::jinja {

using Variables = absl::flat_hash_map<std::string, Value>;

// One rendering. Borrows the template, which must outlive it. Not thread-safe.
// Variables follow Jinja's scopes: a for body and a macro have their own, an if has not.
class Evaluator {
 public:
  // `now`: the time that strftime_now prints; without it the function is not defined.
  Evaluator(const Block& block, Variables variables, std::optional<absl::CivilSecond> now);
  // Once. Errors: kInvalidArgument (the template raised an error, or an operation does not fit its operands; with line
  // and column), kResourceExhausted (a bound of budget.h was hit).
  absl::StatusOr<std::string> Render();

 private:
  enum class Flow { kNext, kBreak, kContinue };

  absl::StatusOr<Flow> Run(const Block& block);
  absl::StatusOr<Flow> RunStatement(const Statement& statement);
  absl::StatusOr<Flow> RunIf(const Statement& statement);
  absl::StatusOr<Flow> RunFor(const Statement& statement);
  absl::Status RunSet(const Statement& statement);
  absl::Status RunSetBlock(const Statement& statement);
  absl::Status Assign(const std::vector<std::string>& targets, const Value& value);
  absl::Status Print(absl::string_view text);

  absl::StatusOr<Value> Evaluate(const Expr& expr);
  absl::StatusOr<Value> EvaluateNode(const Expr& expr);
  absl::StatusOr<Value> EvaluateContainer(const Expr& expr);
  absl::StatusOr<Value> EvaluateUnary(const Expr& expr);
  absl::StatusOr<Value> EvaluateBinary(const Expr& expr);
  absl::StatusOr<Value> EvaluateCompare(const Expr& expr);
  absl::StatusOr<Value> EvaluateConditional(const Expr& expr);
  absl::StatusOr<Value> EvaluateSlice(const Expr& expr);
  absl::StatusOr<Value> EvaluateCall(const Expr& expr);
  absl::StatusOr<Value> CallFunction(Function function, const Arguments& arguments);
  absl::StatusOr<Value> CallMacro(const Macro& macro, const Arguments& arguments);
  absl::StatusOr<Arguments> EvaluateArguments(const Expr& expr);

  Value Lookup(const std::string& name) const;
  absl::Status Enter();  // one level deeper, one step more

  const Block& block_;
  const std::optional<absl::CivilSecond> now_;
  std::vector<Variables> scopes_;  // [0]: the template's; then those of open loops, from base_ on visible
  size_t base_ = 0;                // the first scope of the macro that runs
  int depth_ = 0;
  Budget budget_;
  std::string output_;
};

}  // namespace tandem::engine::jinja
