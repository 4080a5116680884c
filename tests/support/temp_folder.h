// Where tests put files that end with the process.
#pragma once

#include <string>

namespace tandem::testing {

// A folder of this process alone, made by the first call and removed with all it holds when the process ends normally.
// Thread-safe.
const std::string& TempFolder();

}  // namespace tandem::testing
