#include <cmath>

#include "engine/base/status_macros.h"
#include "engine/chat/builtins.h"
#include "engine/chat/operators.h"

namespace tandem::engine::jinja {
namespace {

// Tests that look at the type only; nullopt-like: -1 if `name` is none of them.
int TypeTest(absl::string_view name, const Value& v) {
  const bool text = v.if_string() != nullptr, list = v.if_list() != nullptr, dict = v.if_dict() != nullptr;
  if (name == "defined") return !v.is_undefined();
  if (name == "undefined") return v.is_undefined();
  if (name == "none") return v.is_none();
  if (name == "string") return text;
  if (name == "mapping") return dict;
  if (name == "sequence" || name == "iterable") return text || list || dict || v.is_undefined();
  if (name == "number") return v.is_number();
  if (name == "integer") return v.if_int() != nullptr;
  if (name == "float") return v.if_float() != nullptr;
  if (name == "boolean") return v.if_bool() != nullptr;
  if (name == "true") return v.if_bool() && *v.if_bool();
  if (name == "false") return v.if_bool() && !*v.if_bool();
  if (name == "callable") return v.is_callable();
  return -1;
}

// The comparison that a test stands for; "" if it is none.
absl::string_view ComparisonOf(absl::string_view name) {
  if (name == "equalto" || name == "eq" || name == "sameas") return "==";
  if (name == "ne") return "!=";
  if (name == "lt" || name == "lessthan") return "<";
  if (name == "le") return "<=";
  if (name == "gt" || name == "greaterthan") return ">";
  if (name == "ge") return ">=";
  if (name == "in") return "in";
  return "";
}

}  // namespace

absl::StatusOr<bool> ApplyTest(absl::string_view name, const Value& input, const Arguments& arguments, Budget* budget) {
  if (const int result = TypeTest(name, input); result >= 0) return result == 1;
  if (const absl::string_view op = ComparisonOf(name); !op.empty()) {
    const Value* other = arguments.Find(0, "other");
    if (other == nullptr) return absl::InvalidArgumentError(absl::StrCat("the test \"", name, "\" needs an argument"));
    return CompareOperator(op, input, *other, budget);
  }
  if (name == "odd" || name == "even" || name == "divisibleby") {
    TANDEM_ASSIGN_OR_RETURN(const int64_t divisor, arguments.Int(0, "num", 2));
    TANDEM_ASSIGN_OR_RETURN(const Value remainder, BinaryOperator("%", input, Value::Int(divisor), budget));
    return remainder.Truthy() == (name == "odd");
  }
  return absl::InvalidArgumentError(absl::StrCat("the test \"", name, "\" is not supported"));
}

}  // namespace tandem::engine::jinja
