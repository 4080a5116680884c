// A recorded load: when each request came, and how long prompt and answer were.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::cli {

struct TraceEntry {
  double at_s = 0;             // from the start of the load; ascending
  uint32_t prompt_tokens = 0;  // 0: `prompt` is the prompt
  uint32_t max_tokens = 0;
  std::string prompt;
};

// JSON lines, an object each: {"at_s": 0.25, "prompt_tokens": 128, "max_tokens": 64}, or with "prompt", a text, instead
// of "prompt_tokens"; with both the text counts. Empty lines are left out. Errors: kInvalidArgument (no flat JSON
// object, a key missing, unknown or of another type, a number out of range, times that go back, no line at all); the
// message has the line's number.
absl::StatusOr<std::vector<TraceEntry>> ParseTrace(absl::string_view text);

}  // namespace tandem::cli
