// libFuzzer target of the tokenizers. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/, lines of text.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::engine {
bool FuzzTokenizer(absl::string_view bytes);  // tokenizer_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzTokenizer(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
