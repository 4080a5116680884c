// Filters ("x | trim"), tests ("x is defined") and methods ("x.strip()") of the template language. Errors of all:
// kInvalidArgument (unknown name, arguments that do not fit; without a position), kResourceExhausted (Budget).
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/chat/arguments.h"
#include "engine/chat/budget.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

absl::StatusOr<Value> ApplyFilter(absl::string_view name, const Value& input, const Arguments& arguments,
                                  Budget* budget);
absl::StatusOr<bool> ApplyTest(absl::string_view name, const Value& input, const Arguments& arguments, Budget* budget);
absl::StatusOr<Value> CallMethod(const Value& object, absl::string_view name, const Arguments& arguments,
                                 Budget* budget);

}  // namespace tandem::engine::jinja
