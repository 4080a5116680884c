// libFuzzer target. Build: tests/fuzz/CMakeLists.txt. Seeds: gbnf_corpus/.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::engine::grammar {
bool FuzzGbnf(absl::string_view text);  // grammar_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::grammar::FuzzGbnf(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
