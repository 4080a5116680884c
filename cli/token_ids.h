// Token ids as people write them: "1,403,407" or "1 403 407".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::cli {

// Errors: kInvalidArgument naming the entry that is no number from 0 to 2^31 - 1; an empty list.
absl::StatusOr<std::vector<int32_t>> ParseTokenIds(absl::string_view text);

}  // namespace tandem::cli
