#include "engine/chat/operators.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/chat/text_ops.h"
#include "engine/chat/value_text.h"

namespace tandem::engine::jinja {
namespace {

absl::Status UndefinedError(const Value& value) {
  const auto& undefined = std::get<Undefined>(value.data());
  return absl::InvalidArgumentError(absl::StrCat("\"", undefined.name, "\" is undefined"));
}

absl::Status Misfit(absl::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  return absl::InvalidArgumentError(
      absl::StrCat("the operator ", op, " does not fit a ", a.TypeName(), " and a ", b.TypeName()));
}

absl::Status Overflow(absl::string_view op) {
  return absl::InvalidArgumentError(absl::StrCat("the result of ", op, " does not fit 64 bits"));
}

int64_t AsInt(const Value& value) { return value.if_int() ? *value.if_int() : static_cast<int64_t>(value.AsDouble()); }

absl::StatusOr<Value> IntegerArithmetic(absl::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+")
    return __builtin_add_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(Value::Int(result));
  if (op == "-")
    return __builtin_sub_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(Value::Int(result));
  if (op == "*")
    return __builtin_mul_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(Value::Int(result));
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the only divisor that can overflow
    if (op == "%") return Value::Int(0);
    return IntegerArithmetic("-", 0, a);
  }
  // Rounded towards minus infinity; the remainder has the sign of the divisor.
  const int64_t quotient = a / b, remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  return Value::Int(op == "//" ? quotient - adjust : remainder + (adjust ? b : 0));
}

absl::StatusOr<Value> FloatArithmetic(absl::string_view op, double a, double b) {
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (b == 0.0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value::Float(a / b);
  const double quotient = std::floor(a / b);
  return Value::Float(op == "//" ? quotient : a - quotient * b);
}

absl::StatusOr<Value> Concat(const Value& a, const Value& b, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, TextOf(a, budget));
  TANDEM_ASSIGN_OR_RETURN(const std::string tail, TextOf(b, budget));
  return Value::String(std::move(text) + tail);
}

absl::StatusOr<Value> Repeat(const std::string& text, int64_t times, Budget* budget) {
  if (times <= 0 || text.empty()) return Value::String("");
  if (static_cast<uint64_t>(times) > static_cast<uint64_t>(kMaxWorkBytes) / text.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("a string repeated ", times, " times is too long"));
  }
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size() * static_cast<size_t>(times)));
  std::string result;
  for (int64_t i = 0; i < times; ++i) result += text;
  return Value::String(std::move(result));
}

absl::StatusOr<bool> Equal(const Value& a, const Value& b, Budget* budget) {
  const bool equal = Equals(a, b, budget->steps());
  TANDEM_RETURN_IF_ERROR(budget->Steps(0));
  return equal;
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item, Budget* budget) {
  if (container.is_undefined()) return false;
  if (const std::string* text = container.if_string()) {
    if (!item.if_string()) return Misfit("in", item, container);
    TANDEM_RETURN_IF_ERROR(ChargeSearch(text->size(), item.if_string()->size(), budget));
    return text->find(*item.if_string()) != std::string::npos;
  }
  if (const Dict* dict = container.if_dict()) return item.if_string() && dict->Find(*item.if_string()) != nullptr;
  if (const List* list = container.if_list()) {
    for (const Value& element : list->items) {
      TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(element, item, budget));
      if (equal) return true;
    }
    return false;
  }
  return Misfit("in", item, container);
}

Value LoopField(const LoopState& loop, absl::string_view name) {
  const auto& items = loop.items->items;
  const auto number = [](size_t n) { return Value::Int(static_cast<int64_t>(n)); };
  if (name == "index0") return number(loop.index0);
  if (name == "index") return number(loop.index0 + 1);
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(loop.index0 + 1 == items.size());
  if (name == "length") return number(items.size());
  if (name == "revindex") return number(items.size() - loop.index0);
  if (name == "revindex0") return number(items.size() - loop.index0 - 1);
  if (name == "previtem" && loop.index0 > 0) return items[loop.index0 - 1];
  if (name == "nextitem" && loop.index0 + 1 < items.size()) return items[loop.index0 + 1];
  return Value::UndefinedNamed(name);
}

// Element `index` of `items`, from the end if negative; null if there is none.
template <typename Items>
const typename Items::value_type* ElementAt(const Items& items, int64_t index) {
  const auto size = static_cast<int64_t>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? nullptr : &items[static_cast<size_t>(index)];
}

// The indices that a slice of `size` elements takes. Errors: kInvalidArgument (a bound is no integer, or step is 0).
absl::StatusOr<std::vector<size_t>> SliceIndices(const Value& start, const Value& stop, const Value& step, size_t size,
                                                 Budget* budget) {
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->if_int()) {
      return absl::InvalidArgumentError(absl::StrCat("a bound of a slice is a ", bound->TypeName()));
    }
  }
  const int64_t n = static_cast<int64_t>(size);
  const int64_t by = step.is_none() ? 1 : AsInt(step);
  if (by == 0) return absl::InvalidArgumentError("the step of a slice is 0");
  // Bounds clamp to the positions that exist: 0..n forwards, -1..n-1 backwards.
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
  const auto clamp = [&](const Value& bound, int64_t fallback) {
    if (bound.is_none()) return fallback;
    const int64_t index = AsInt(bound);
    return std::clamp(index < 0 ? index + n : index, low, high);
  };
  const int64_t first = clamp(start, by > 0 ? low : high), end = clamp(stop, by > 0 ? high : low);
  std::vector<size_t> indices;
  for (int64_t i = first; by > 0 ? i < end : i > end; i += by) {
    indices.push_back(static_cast<size_t>(i));
    if (by > n || by < -n) break;  // the next step leaves the list, perhaps the range of int64
  }
  TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(indices.size())));
  return indices;
}

}  // namespace

absl::StatusOr<Value> BinaryOperator(absl::string_view op, const Value& a, const Value& b, Budget* budget) {
  if (op == "~") return Concat(a, b, budget);
  if (a.is_number() && b.is_number()) {
    if (a.if_float() || b.if_float()) return FloatArithmetic(op, a.AsDouble(), b.AsDouble());
    return IntegerArithmetic(op, AsInt(a), AsInt(b));
  }
  if (op == "+" && a.if_string() && b.if_string()) return Concat(a, b, budget);
  if (op == "+" && a.if_list() && b.if_list()) {
    std::vector<Value> items = a.if_list()->items;
    items.insert(items.end(), b.if_list()->items.begin(), b.if_list()->items.end());
    TANDEM_RETURN_IF_ERROR(budget->Bytes(items.size() * sizeof(Value)));
    return Value::MakeList(std::move(items));
  }
  if (op == "*" && a.if_string() && b.if_int()) return Repeat(*a.if_string(), *b.if_int(), budget);
  if (op == "*" && b.if_string() && a.if_int()) return Repeat(*b.if_string(), *a.if_int(), budget);
  return Misfit(op, a, b);
}

absl::StatusOr<Value> Negate(const Value& a) {
  if (const double* number = a.if_float()) return Value::Float(-*number);
  if (a.is_number()) return IntegerArithmetic("-", 0, AsInt(a));
  return Misfit("-", Value::Int(0), a);
}

absl::StatusOr<bool> CompareOperator(absl::string_view op, const Value& a, const Value& b, Budget* budget) {
  if (op == "in") return Contains(b, a, budget);
  if (op == "not in") {
    TANDEM_ASSIGN_OR_RETURN(const bool contained, Contains(b, a, budget));
    return !contained;
  }
  if (op == "==") return Equal(a, b, budget);
  if (op == "!=") {
    TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(a, b, budget));
    return !equal;
  }
  bool less = false, greater = false;
  if (a.if_string() && b.if_string()) {
    less = *a.if_string() < *b.if_string();
    greater = *a.if_string() > *b.if_string();
  } else if (a.is_number() && b.is_number()) {
    const bool integers = !a.if_float() && !b.if_float();
    less = integers ? AsInt(a) < AsInt(b) : a.AsDouble() < b.AsDouble();
    greater = integers ? AsInt(a) > AsInt(b) : a.AsDouble() > b.AsDouble();
  } else {
    return Misfit(op, a, b);
  }
  if (op == "<") return less;
  if (op == ">") return greater;
  return op == "<=" ? !greater : !less;
}

absl::StatusOr<Value> Attribute(const Value& a, absl::string_view name) {
  if (a.is_undefined()) return UndefinedError(a);
  const Value* found = nullptr;
  if (const Dict* dict = a.if_dict()) found = dict->Find(name);
  if (const Namespace* ns = a.if_namespace()) {
    const auto it = ns->fields.find(name);
    if (it != ns->fields.end()) found = &it->second;
  }
  if (const LoopState* loop = a.if_loop()) return LoopField(*loop, name);
  int64_t index = 0;
  if (a.if_list() && absl::SimpleAtoi(name, &index)) found = ElementAt(a.if_list()->items, index);
  return found == nullptr ? Value::UndefinedNamed(name) : *found;
}

absl::StatusOr<Value> Subscript(const Value& a, const Value& key, Budget* budget) {
  if (a.is_undefined()) return UndefinedError(a);
  if (const std::string* name = key.if_string()) return Attribute(a, *name);
  if (key.if_int() && a.if_list()) {
    const Value* element = ElementAt(a.if_list()->items, *key.if_int());
    return element == nullptr ? Value::UndefinedNamed(absl::StrCat("element ", *key.if_int())) : *element;
  }
  if (key.if_int() && a.if_string()) {
    TANDEM_RETURN_IF_ERROR(budget->Bytes(a.if_string()->size() * sizeof(absl::string_view)));
    const auto characters = Characters(*a.if_string());
    const absl::string_view* character = ElementAt(characters, *key.if_int());
    return character == nullptr ? Value::UndefinedNamed("character") : Value::String(std::string(*character));
  }
  return Value::UndefinedNamed(absl::StrCat("subscript by a ", key.TypeName()));
}

absl::StatusOr<Value> Slice(const Value& a, const Value& start, const Value& stop, const Value& step, Budget* budget) {
  if (a.is_undefined()) return UndefinedError(a);
  if (const List* list = a.if_list()) {
    TANDEM_ASSIGN_OR_RETURN(const auto indices, SliceIndices(start, stop, step, list->items.size(), budget));
    std::vector<Value> items;
    items.reserve(indices.size());
    for (const size_t i : indices) items.push_back(list->items[i]);
    TANDEM_RETURN_IF_ERROR(budget->Bytes(items.size() * sizeof(Value)));
    return Value::MakeList(std::move(items));
  }
  if (const std::string* text = a.if_string()) {
    TANDEM_RETURN_IF_ERROR(budget->Bytes(text->size() * sizeof(absl::string_view)));
    const auto characters = Characters(*text);
    TANDEM_ASSIGN_OR_RETURN(const auto indices, SliceIndices(start, stop, step, characters.size(), budget));
    std::string result;
    for (const size_t i : indices) absl::StrAppend(&result, characters[i]);
    return Value::String(std::move(result));
  }
  return absl::InvalidArgumentError(absl::StrCat("a ", a.TypeName(), " cannot be sliced"));
}

absl::StatusOr<std::string> TextOf(const Value& a, Budget* budget) {
  std::string text;
  if (const std::string* string = a.if_string()) {
    text = *string;
  } else if (!a.is_undefined()) {
    AppendRepr(a, kMaxOutputBytes, &text);
    if (text.size() > kMaxOutputBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("a value as text has more than ", kMaxOutputBytes, " bytes"));
    }
  }
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size()));
  return text;
}

absl::Status ChargeSearch(size_t text_bytes, size_t needle_bytes, Budget* budget) {
  // In units of about a microsecond: 64 bytes passed over, times 16 bytes compared at each place.
  return budget->Steps(static_cast<int64_t>((text_bytes / 64 + 1) * (needle_bytes / 16 + 1)));
}

absl::StatusOr<std::vector<Value>> Elements(const Value& a, Budget* budget) {
  std::vector<Value> elements;
  if (const List* list = a.if_list()) {
    elements = list->items;
  } else if (const Dict* dict = a.if_dict()) {
    for (const auto& [key, value] : dict->entries) elements.push_back(Value::String(key));
  } else if (const std::string* text = a.if_string()) {
    TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(text->size())));
    TANDEM_RETURN_IF_ERROR(budget->Bytes(text->size() * sizeof(Value)));
    for (const absl::string_view c : Characters(*text)) elements.push_back(Value::String(std::string(c)));
  } else if (!a.is_undefined()) {
    return absl::InvalidArgumentError(absl::StrCat("a ", a.TypeName(), " has no elements to walk over"));
  }
  TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(elements.size())));
  TANDEM_RETURN_IF_ERROR(budget->Bytes(elements.size() * sizeof(Value)));
  return elements;
}

}  // namespace tandem::engine::jinja
