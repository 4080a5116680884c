#include "engine/chat/evaluator.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/chat/builtins.h"
#include "engine/chat/operators.h"

namespace tandem::engine::jinja {
namespace {

constexpr std::pair<absl::string_view, Function> kFunctions[] = {{"namespace", Function::kNamespace},
                                                                 {"range", Function::kRange},
                                                                 {"dict", Function::kDict},
                                                                 {"raise_exception", Function::kRaiseException},
                                                                 {"strftime_now", Function::kStrftimeNow}};

// Adds the position to an error that has none yet. The code stays.
absl::Status Locate(const absl::Status& status, Position position) {
  if (status.ok() || absl::StartsWith(status.message(), "chat template, line ")) return status;
  return absl::Status(status.code(), ErrorAt(position, status.message()).message());
}

absl::StatusOr<Value> Range(const Arguments& arguments, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t first, arguments.Int(0, "start", 0));
  const bool only_stop = arguments.positional.size() < 2;
  const int64_t start = only_stop ? 0 : first;
  TANDEM_ASSIGN_OR_RETURN(const int64_t stop, arguments.Int(only_stop ? 0 : 1, "stop", 0));
  TANDEM_ASSIGN_OR_RETURN(const int64_t step, arguments.Int(2, "step", 1));
  if (step == 0) return absl::InvalidArgumentError("the step of range is 0");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    TANDEM_RETURN_IF_ERROR(budget->Steps(1));
    TANDEM_RETURN_IF_ERROR(budget->Bytes(sizeof(Value)));
    items.push_back(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::MakeList(std::move(items));
}

}  // namespace

Evaluator::Evaluator(const Block& block, Variables variables, std::optional<absl::CivilSecond> now)
    : block_(block), now_(now) {
  scopes_.push_back(std::move(variables));
}

absl::StatusOr<std::string> Evaluator::Render() {
  TANDEM_RETURN_IF_ERROR(Run(block_).status());
  return std::move(output_);
}

absl::Status Evaluator::Enter() {
  ++depth_;
  if (depth_ > kMaxEvaluationDepth) {
    return absl::ResourceExhaustedError(absl::StrCat("the template nests deeper than ", kMaxEvaluationDepth,
                                                     " levels while it runs (macros that call each other?)"));
  }
  return budget_.Steps(1);
}

absl::Status Evaluator::Print(absl::string_view text) {
  if (text.size() > kMaxOutputBytes - output_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("the prompt grows beyond ", kMaxOutputBytes, " bytes"));
  }
  output_.append(text.data(), text.size());
  return absl::OkStatus();
}

Value Evaluator::Lookup(const std::string& name) const {
  for (size_t i = scopes_.size(); i-- > base_;) {
    const auto it = scopes_[i].find(name);
    if (it != scopes_[i].end()) return it->second;
  }
  const auto it = scopes_[0].find(name);
  if (it != scopes_[0].end()) return it->second;
  for (const auto& [function_name, function] : kFunctions) {
    const bool available = function != Function::kStrftimeNow || now_.has_value();
    if (function_name == name && available) return Value(Value::Data(function));
  }
  return Value::UndefinedNamed(name);
}

absl::StatusOr<Evaluator::Flow> Evaluator::Run(const Block& block) {
  for (const auto& statement : block) {
    absl::Status entered = Enter();
    absl::StatusOr<Flow> flow = entered.ok() ? RunStatement(*statement) : absl::StatusOr<Flow>(std::move(entered));
    --depth_;
    if (!flow.ok()) return Locate(flow.status(), statement->position);
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunStatement(const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::kText:
      TANDEM_RETURN_IF_ERROR(Print(statement.text));
      break;
    case StatementKind::kOutput: {
      TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.value));
      if (const std::string* text = value.if_string()) {
        TANDEM_RETURN_IF_ERROR(Print(*text));
      } else {
        TANDEM_ASSIGN_OR_RETURN(const std::string text_of_value, TextOf(value, &budget_));
        TANDEM_RETURN_IF_ERROR(Print(text_of_value));
      }
      break;
    }
    case StatementKind::kIf:
      return RunIf(statement);
    case StatementKind::kFor:
      return RunFor(statement);
    case StatementKind::kSet:
      TANDEM_RETURN_IF_ERROR(RunSet(statement));
      break;
    case StatementKind::kSetBlock:
      TANDEM_RETURN_IF_ERROR(RunSetBlock(statement));
      break;
    case StatementKind::kMacro:
      scopes_.back()[statement.macro.name] = Value(Value::Data(&statement.macro));
      break;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunIf(const Statement& statement) {
  for (const Branch& branch : statement.branches) {
    if (branch.condition != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(*branch.condition));
      if (!condition.Truthy()) continue;
    }
    return Run(branch.body);
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunFor(const Statement& statement) {
  TANDEM_ASSIGN_OR_RETURN(const Value iterable, Evaluate(*statement.value));
  TANDEM_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(iterable, &budget_));
  if (statement.condition != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      scopes_.emplace_back();
      absl::Status assigned = Assign(statement.targets, item);
      absl::StatusOr<Value> condition =
          assigned.ok() ? Evaluate(*statement.condition) : absl::StatusOr<Value>(std::move(assigned));
      scopes_.pop_back();
      if (!condition.ok()) return condition.status();
      if (condition->Truthy()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) return Run(statement.otherwise);

  auto list = std::make_shared<List>();
  list->items = std::move(items);
  for (size_t i = 0; i < list->items.size(); ++i) {
    auto loop = std::make_shared<LoopState>();
    loop->index0 = i;
    loop->items = list;
    scopes_.emplace_back();
    scopes_.back()["loop"] = Value(Value::Data(std::shared_ptr<const LoopState>(std::move(loop))));
    absl::Status assigned = Assign(statement.targets, list->items[i]);
    const absl::StatusOr<Flow> flow = assigned.ok() ? Run(statement.body) : absl::StatusOr<Flow>(std::move(assigned));
    scopes_.pop_back();
    if (!flow.ok()) return flow;
    if (*flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::Status Evaluator::RunSet(const Statement& statement) {
  TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(*statement.value));
  if (statement.field.empty()) return Assign(statement.targets, value);
  const Value target = Lookup(statement.targets[0]);
  Namespace* ns = target.if_namespace();
  if (ns == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("\"", statement.targets[0], "\" is a ", target.TypeName(),
                                                   "; only fields of a namespace can be set"));
  }
  // A namespace in a namespace could hold itself and would never be freed.
  if (value.if_namespace() || value.if_loop()) {
    return absl::InvalidArgumentError(absl::StrCat("a ", value.TypeName(), " cannot be the field of a namespace"));
  }
  ns->fields[statement.field] = std::move(value);
  return absl::OkStatus();
}

absl::Status Evaluator::RunSetBlock(const Statement& statement) {
  std::string outer = std::exchange(output_, "");
  const absl::Status status = Run(statement.body).status();
  std::string text = std::exchange(output_, std::move(outer));
  TANDEM_RETURN_IF_ERROR(status);
  TANDEM_RETURN_IF_ERROR(budget_.Bytes(text.size()));
  scopes_.back()[statement.targets[0]] = Value::String(std::move(text));
  return absl::OkStatus();
}

absl::Status Evaluator::Assign(const std::vector<std::string>& targets, const Value& value) {
  if (targets.size() == 1) {
    scopes_.back()[targets[0]] = value;
    return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> parts, Elements(value, &budget_));
  if (parts.size() != targets.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of ", parts.size(), " elements cannot be given to ", targets.size(), " variables"));
  }
  for (size_t i = 0; i < parts.size(); ++i) scopes_.back()[targets[i]] = parts[i];
  return absl::OkStatus();
}

absl::StatusOr<Value> Evaluator::Evaluate(const Expr& expr) {
  absl::Status entered = Enter();
  absl::StatusOr<Value> value = entered.ok() ? EvaluateNode(expr) : absl::StatusOr<Value>(std::move(entered));
  --depth_;
  if (!value.ok()) return Locate(value.status(), expr.position);
  return value;
}

absl::StatusOr<Value> Evaluator::CallMacro(const Macro& macro, const Arguments& arguments) {
  if (arguments.positional.size() > macro.parameters.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the macro \"", macro.name, "\" takes ", macro.parameters.size(),
                                                   " arguments, not ", arguments.positional.size()));
  }
  const size_t outer_base = std::exchange(base_, scopes_.size());
  std::string outer_output = std::exchange(output_, "");
  scopes_.emplace_back();
  absl::Status status;
  for (size_t i = 0; i < macro.parameters.size() && status.ok(); ++i) {
    const auto& [name, fallback] = macro.parameters[i];
    const Value* given = arguments.Find(i, name);
    Value value = given != nullptr ? *given : Value::UndefinedNamed(name);
    if (given == nullptr && fallback != nullptr) {
      absl::StatusOr<Value> evaluated = Evaluate(*fallback);
      status = evaluated.status();
      if (evaluated.ok()) value = *std::move(evaluated);
    }
    scopes_.back()[name] = std::move(value);
  }
  if (status.ok()) status = Run(macro.body).status();
  scopes_.resize(base_);
  base_ = outer_base;
  std::string text = std::exchange(output_, std::move(outer_output));
  TANDEM_RETURN_IF_ERROR(status);
  TANDEM_RETURN_IF_ERROR(budget_.Bytes(text.size()));
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Evaluator::CallFunction(Function function, const Arguments& arguments) {
  switch (function) {
    case Function::kRange:
      return Range(arguments, &budget_);
    case Function::kDict:
      return Value::MakeDict(arguments.keywords);
    case Function::kNamespace: {
      auto ns = std::make_shared<Namespace>();
      for (const auto& [name, value] : arguments.keywords) {
        if (value.if_namespace() || value.if_loop()) {
          return absl::InvalidArgumentError(
              absl::StrCat("a ", value.TypeName(), " cannot be the field of a namespace"));
        }
        ns->fields[name] = value;
      }
      return Value(Value::Data(std::move(ns)));
    }
    case Function::kRaiseException: {
      const Value* message = arguments.Find(0, "message");
      if (message == nullptr) return absl::InvalidArgumentError("the template raised an error");
      TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(*message, &budget_));
      return absl::InvalidArgumentError(text);
    }
    case Function::kStrftimeNow: {
      TANDEM_ASSIGN_OR_RETURN(const std::string format, arguments.String(0, "format"));
      const absl::TimeZone utc = absl::UTCTimeZone();
      return Value::String(absl::FormatTime(format, absl::FromCivil(*now_, utc), utc));
    }
  }
  return absl::InternalError("unknown function");
}

}  // namespace tandem::engine::jinja
