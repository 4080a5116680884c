// libFuzzer target of request traces and lengths. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::cli {
bool FuzzTrace(absl::string_view text);  // trace_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::cli::FuzzTrace(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
