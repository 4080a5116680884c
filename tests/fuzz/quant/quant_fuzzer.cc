// libFuzzer target of the block formats. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/, one a format.
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::engine {
bool FuzzQuant(std::span<const std::byte> bytes);  // quant_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::engine::FuzzQuant(std::as_bytes(std::span(data, size)));
  return 0;
}
