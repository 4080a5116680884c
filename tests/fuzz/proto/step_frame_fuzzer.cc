// libFuzzer target of what a peer can make a worker do with one step. Build: tests/fuzz/CMakeLists.txt. Seeds: corpus/,
// written by make_corpus.cc.
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::worker {
int FuzzStepFrame(std::span<const uint8_t> bytes);  // step_frame_fuzz_body.cc
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::worker::FuzzStepFrame(std::span(data, size));
  return 0;
}
