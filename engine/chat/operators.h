// The operators of the template language, with Python's meaning. Errors of all: kInvalidArgument (operands that do not
// fit; without a position), kResourceExhausted (Budget).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/chat/budget.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

// `op`: + - * / // % ~
absl::StatusOr<Value> BinaryOperator(absl::string_view op, const Value& a, const Value& b, Budget* budget);
absl::StatusOr<Value> Negate(const Value& a);
// `op`: == != < <= > >= in "not in"
absl::StatusOr<bool> CompareOperator(absl::string_view op, const Value& a, const Value& b, Budget* budget);

// a.name; undefined where there is no such thing. An error only if `a` is undefined itself.
absl::StatusOr<Value> Attribute(const Value& a, absl::string_view name);
// a[key], likewise.
absl::StatusOr<Value> Subscript(const Value& a, const Value& key, Budget* budget);
// a[start:stop:step] of a list or a string. Bounds are integers, or none where left out.
absl::StatusOr<Value> Slice(const Value& a, const Value& start, const Value& stop, const Value& step, Budget* budget);

// Text as {{ }} prints it: Python's str(); undefined prints nothing.
absl::StatusOr<std::string> TextOf(const Value& a, Budget* budget);

// Pays for a search of `needle_bytes` in `text_bytes`, whose cost can be their product.
absl::Status ChargeSearch(size_t text_bytes, size_t needle_bytes, Budget* budget);

// What a for loop or a filter walks over: elements, characters or keys. Undefined has none.
absl::StatusOr<std::vector<Value>> Elements(const Value& a, Budget* budget);

}  // namespace tandem::engine::jinja
