// Model files with damaged headers: whatever the damage, reading, loading and running give a result or a status.

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using testing::StageRunner;

enum class Outcome { kNoGguf, kNoModel, kNotLoaded, kFailed, kRan };

Outcome TryModel(const std::vector<std::byte>& bytes) {
  const auto file = GgufFile::Parse(bytes);
  if (!file.ok()) return Outcome::kNoGguf;
  if (!ReadModelSpec(**file).ok()) return Outcome::kNoModel;
  const auto runner = StageRunner::Create(**file, {.num_pages = 4, .max_step_tokens = 8});
  if (!runner.ok()) return Outcome::kNotLoaded;
  const std::vector<int32_t> tokens = {1, 2, 3};
  return (*runner)->Logits(tokens, 2).ok() ? Outcome::kRan : Outcome::kFailed;
}

TEST(DamagedModelTest, ChangedBytesNeverCrash) {
  const testing::TinyFile tiny = testing::ParseTinyModel({.layers = 1, .hidden = 32, .ffn = 32, .vocab_size = 300});
  const size_t header_bytes = tiny.file->header().size();
  // The vocabulary fills most of the header and is not read here: damage the beginning, with the hyperparameters, and
  // the end, with the tensors.
  const size_t front = 900, back = 900;
  ASSERT_GT(header_bytes, front + back);
  std::mt19937 random(20);  // the same sequence everywhere
  int counts[5] = {};
  for (int round = 0; round < 600; ++round) {
    std::vector<std::byte> bytes = tiny.bytes;
    for (uint32_t changes = 1 + random() % 2; changes > 0; --changes) {
      const size_t place = random() % (front + back);
      bytes[place < front ? place : header_bytes - front - back + place] = static_cast<std::byte>(random());
    }
    ++counts[static_cast<int>(TryModel(bytes))];
  }
  EXPECT_GT(counts[static_cast<int>(Outcome::kNoGguf)], 0);
  EXPECT_GT(counts[static_cast<int>(Outcome::kNoModel)], 0);
  EXPECT_GT(counts[static_cast<int>(Outcome::kRan)], 0);
}

}  // namespace
}  // namespace tandem::engine
