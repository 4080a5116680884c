// libFuzzer target of the GGUF parser. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/, written by make_corpus.cc.
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::engine {
bool FuzzGguf(std::span<const std::byte> bytes);  // gguf_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzGguf(std::as_bytes(std::span(data, size)));
  return 0;
}
