// libFuzzer target of the chat templates. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/, templates.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::engine {
bool FuzzChat(absl::string_view source);  // chat_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzChat(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
