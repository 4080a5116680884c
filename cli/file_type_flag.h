// The type of a model file as a flag or argument names it.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/conversion/file_type.h"

namespace tandem::cli {

// Errors: kOutOfRange (wrong usage), naming `flag`, the name and those that there are.
absl::StatusOr<const engine::FileType*> ParseFileType(absl::string_view flag, absl::string_view name);

}  // namespace tandem::cli
