// Writes the seeds of the adapter fuzzer: adapter_make_corpus FOLDER.
#include <iostream>
#include <string>

#include "tests/support/tiny_adapter.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: adapter_make_corpus FOLDER\n";
    return 2;
  }
  using tandem::testing::MakeTinyAdapter;
  const tandem::testing::TinyModel model =
      tandem::testing::MakeTinyModel({.layers = 1, .hidden = 32, .ffn = 32});  // that of adapter_fuzz_body.cc
  const std::string folder = std::string(argv[1]) + "/";
  for (const absl::Status& written :
       {MakeTinyAdapter(model, {.rank = 1, .parts = {"attn_q", "ffn_down"}}).Write(folder + "f32.gguf"),
        MakeTinyAdapter(model, {.rank = 2, .alpha = 0, .type = tandem::engine::TensorType::kF16, .parts = {"attn_v"}})
            .Write(folder + "f16.gguf")}) {
    if (written.ok()) continue;
    std::cerr << written << "\n";
    return 1;
  }
  return 0;
}
