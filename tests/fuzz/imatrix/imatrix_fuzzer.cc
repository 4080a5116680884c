// libFuzzer target of the older importance matrix files. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::engine {
bool FuzzImportanceMatrix(absl::string_view bytes);  // imatrix_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzImportanceMatrix(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
