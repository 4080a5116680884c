// The one wording of a parameter that is out of range.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T min, T max) {
  if (value >= min && value <= max) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; valid are ", min, " to ", max));
}

// For a range that its lower end is not part of.
template <typename T>
absl::Status CheckAbove(absl::string_view field, T value, T above, T max) {
  if (value > above && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; valid are above ", above, " to ", max));
}

}  // namespace tandem::engine
