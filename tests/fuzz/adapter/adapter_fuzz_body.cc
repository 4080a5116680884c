// What the adapter fuzzer and the unit tests do with a file that is to change a model: read it, load it with a stage,
// and run a step through it. Any crash or sanitizer report is a finding. Declared by its users: adapter_fuzzer.cc,
// tests/engine/model/adapter_file_test.cc.
#include <cstddef>
#include <span>
#include <vector>

#include "engine/model/adapter.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {

// True if a stage took the adapter.
bool FuzzAdapter(std::span<const std::byte> bytes) {
  static const testing::TinyFile& model =
      *new testing::TinyFile(testing::ParseTinyModel(testing::TinyModelShape{.layers = 1, .hidden = 32, .ffn = 32}));
  const auto file = GgufFile::Parse(bytes);
  if (!file.ok()) return false;
  const auto runner =
      testing::StageRunner::Create(*model.file, {.num_pages = 4, .max_step_tokens = 16, .adapters = {file->get()}});
  if (!runner.ok()) return false;
  const std::vector<int32_t> tokens = {5, 6, 7};
  const std::vector<AdapterUse> uses = {{0, 1.0f}};
  // Huge values overflow, which is an error and no finding.
  (void)(*runner)->Logits(tokens, 3, uses);
  return true;
}

}  // namespace tandem::engine
