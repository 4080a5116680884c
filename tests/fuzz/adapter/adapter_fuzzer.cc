// libFuzzer target of what an adapter's file can make a stage do. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/,
// written by make_corpus.cc.
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::engine {
bool FuzzAdapter(std::span<const std::byte> bytes);  // adapter_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzAdapter(std::as_bytes(std::span(data, size)));
  return 0;
}
