// Filters that compare or add up the elements of a list. Errors as in builtins.h.
#pragma once

#include "absl/status/statusor.h"
#include "engine/chat/arguments.h"
#include "engine/chat/budget.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

// "a.b" of `item`: attributes one after the other.
absl::StatusOr<Value> AttributePath(Value item, absl::string_view path);

// sort(reverse, case_sensitive, attribute): stable. min and max (case_sensitive, attribute): undefined of an empty
// list. All elements, or the attributes named, must be strings or all numbers; letters compare without regard to case
// unless asked to.
absl::StatusOr<Value> SortFilter(const Value& input, const Arguments& arguments, Budget* budget);
absl::StatusOr<Value> MinFilter(const Value& input, const Arguments& arguments, Budget* budget);
absl::StatusOr<Value> MaxFilter(const Value& input, const Arguments& arguments, Budget* budget);
// sum(attribute, start).
absl::StatusOr<Value> SumFilter(const Value& input, const Arguments& arguments, Budget* budget);

}  // namespace tandem::engine::jinja
