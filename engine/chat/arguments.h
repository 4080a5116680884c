// The arguments of a call, a filter, a test or a method.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  // The argument at `index`, else the keyword `name`; null if neither is there.
  const Value* Find(size_t index, absl::string_view name) const {
    if (index < positional.size()) return &positional[index];
    for (const auto& [key, value] : keywords) {
      if (key == name) return &value;
    }
    return nullptr;
  }
  // Likewise, a string. Errors: kInvalidArgument (missing or no string).
  absl::StatusOr<std::string> String(size_t index, absl::string_view name) const {
    const Value* value = Find(index, name);
    if (value == nullptr) return absl::InvalidArgumentError(absl::StrCat("the argument \"", name, "\" is missing"));
    if (const std::string* text = value->if_string()) return *text;
    return absl::InvalidArgumentError(
        absl::StrCat("the argument \"", name, "\" is a ", value->TypeName(), "; it must be a string"));
  }
  // Likewise, an integer; `fallback` where it is missing or none.
  absl::StatusOr<int64_t> Int(size_t index, absl::string_view name, int64_t fallback) const {
    const Value* value = Find(index, name);
    if (value == nullptr || value->is_none()) return fallback;
    if (const int64_t* number = value->if_int()) return *number;
    return absl::InvalidArgumentError(
        absl::StrCat("the argument \"", name, "\" is a ", value->TypeName(), "; it must be an integer"));
  }
};

}  // namespace tandem::engine::jinja
