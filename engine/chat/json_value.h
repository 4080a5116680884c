// JSON as values of the template language.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/chat/value.h"

namespace tandem::engine::jinja {

// Objects keep the order of their keys; of equal keys the first counts. Errors: kInvalidArgument (no JSON: with the
// place in `text`; an integer beyond 64 bits; nested deeper than kMaxValueDepth).
absl::StatusOr<Value> ValueFromJson(absl::string_view text);

}  // namespace tandem::engine::jinja
