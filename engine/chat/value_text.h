// Values as text: Python's repr and JSON.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

// Both stop soon after `out` has grown beyond `max_bytes`; the caller refuses such a result.
void AppendRepr(const Value& value, size_t max_bytes, std::string* out);

struct JsonOptions {
  int indent = -1;  // spaces a level; -1: all on one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string item_separator = ", ", key_separator = ": ";
};
// As Python's json.dumps. Errors: kInvalidArgument (a value that JSON has no form for).
absl::Status AppendJson(const Value& value, const JsonOptions& options, size_t max_bytes, std::string* out);

// Shortest text that reads back as `value`, as Python prints it: "1.0", "1e+20", "nan".
std::string FloatText(double value);

}  // namespace tandem::engine::jinja
