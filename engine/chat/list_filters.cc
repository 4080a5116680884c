#include "engine/chat/list_filters.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/chat/operators.h"
#include "engine/chat/text_ops.h"

namespace tandem::engine::jinja {
namespace {

struct Keyed {
  Value item;
  std::string text;  // what strings compare by
  Value number;      // what numbers compare by
};

bool Less(const Keyed& a, const Keyed& b) {
  const int64_t *x = a.number.if_int(), *y = b.number.if_int();
  if (x != nullptr && y != nullptr) return *x < *y;
  if (a.number.is_number()) return a.number.AsDouble() < b.number.AsDouble();
  return a.text < b.text;
}

// The elements with their keys, which all have one type. `first`: the index of the argument case_sensitive.
absl::StatusOr<std::vector<Keyed>> Keys(const Value& input, const Arguments& arguments, size_t first, Budget* budget) {
  const Value* sensitive = arguments.Find(first, "case_sensitive");
  const bool fold_case = sensitive == nullptr || !sensitive->Truthy();
  std::string attribute;
  if (const Value* given = arguments.Find(first + 1, "attribute"); given != nullptr && !given->is_none()) {
    TANDEM_ASSIGN_OR_RETURN(attribute, arguments.String(first + 1, "attribute"));
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(input, budget));
  std::vector<Keyed> keys;
  for (Value& item : items) {
    Value key = item;
    if (!attribute.empty()) {
      TANDEM_ASSIGN_OR_RETURN(key, AttributePath(item, attribute));
    }
    Keyed keyed{std::move(item), "", Value()};
    if (const std::string* text = key.if_string()) {
      TANDEM_RETURN_IF_ERROR(budget->Bytes(text->size()));
      keyed.text = fold_case ? ToLower(*text) : *text;
    } else if (key.is_number() && !std::isnan(key.AsDouble())) {
      keyed.number = key;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("a ", key.TypeName(), " cannot be put in order"));
    }
    keys.push_back(std::move(keyed));
    if (keys.back().number.is_number() != keys.front().number.is_number()) {
      return absl::InvalidArgumentError("strings and numbers cannot be put in one order");
    }
  }
  // What a sort compares at most.
  const auto count = static_cast<double>(keys.size());
  TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(count * (std::log2(count + 1) + 1))));
  return keys;
}

absl::StatusOr<Value> Extreme(std::vector<Keyed> keys, bool greatest) {
  if (keys.empty()) return Value::UndefinedNamed("an element of an empty list");
  const auto at =
      greatest ? std::max_element(keys.begin(), keys.end(), Less) : std::min_element(keys.begin(), keys.end(), Less);
  return at->item;
}

}  // namespace

absl::StatusOr<Value> AttributePath(Value item, absl::string_view path) {
  for (const absl::string_view name : absl::StrSplit(path, '.')) {
    TANDEM_ASSIGN_OR_RETURN(item, Attribute(item, name));
  }
  return item;
}

absl::StatusOr<Value> SortFilter(const Value& input, const Arguments& arguments, Budget* budget) {
  const Value* reverse = arguments.Find(0, "reverse");
  TANDEM_ASSIGN_OR_RETURN(std::vector<Keyed> keys, Keys(input, arguments, 1, budget));
  // As in Python, elements that are equal keep their order in a reversed sort too.
  const bool backwards = reverse != nullptr && reverse->Truthy();
  std::stable_sort(keys.begin(), keys.end(),
                   [backwards](const Keyed& a, const Keyed& b) { return backwards ? Less(b, a) : Less(a, b); });
  std::vector<Value> items;
  for (Keyed& keyed : keys) items.push_back(std::move(keyed.item));
  TANDEM_RETURN_IF_ERROR(budget->Bytes(items.size() * sizeof(Value)));
  return Value::MakeList(std::move(items));
}

absl::StatusOr<Value> MinFilter(const Value& input, const Arguments& arguments, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Keyed> keys, Keys(input, arguments, 0, budget));
  return Extreme(std::move(keys), false);
}

absl::StatusOr<Value> MaxFilter(const Value& input, const Arguments& arguments, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Keyed> keys, Keys(input, arguments, 0, budget));
  return Extreme(std::move(keys), true);
}

absl::StatusOr<Value> SumFilter(const Value& input, const Arguments& arguments, Budget* budget) {
  std::string attribute;
  if (const Value* given = arguments.Find(0, "attribute"); given != nullptr && !given->is_none()) {
    TANDEM_ASSIGN_OR_RETURN(attribute, arguments.String(0, "attribute"));
  }
  const Value* start = arguments.Find(1, "start");
  Value sum = start == nullptr ? Value::Int(0) : *start;
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  for (const Value& item : items) {
    Value term = item;
    if (!attribute.empty()) {
      TANDEM_ASSIGN_OR_RETURN(term, AttributePath(item, attribute));
    }
    TANDEM_ASSIGN_OR_RETURN(sum, BinaryOperator("+", sum, term, budget));
  }
  return sum;
}

}  // namespace tandem::engine::jinja
