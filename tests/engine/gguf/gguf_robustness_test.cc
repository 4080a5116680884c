// Damage of every kind to small files: all of it gives an error or a valid file, never a crash (run it under ASan too).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <vector>

#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {

bool FuzzGguf(std::span<const std::byte> bytes);  // tests/fuzz/gguf/gguf_fuzz_body.cc

namespace {

// A copy of exactly the given size, so that ASan sees a read one byte beyond it.
bool TouchCopy(std::span<const std::byte> bytes) {
  return FuzzGguf(std::vector<std::byte>(bytes.begin(), bytes.end()));
}

TEST(GgufRobustnessTest, EveryTruncationIsAnError) {
  const RawGguf raw = EveryTypeGguf();
  const std::span<const std::byte> bytes = raw.bytes();
  ASSERT_TRUE(TouchCopy(bytes));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(TouchCopy(bytes.first(size))) << size;  // the last byte of the file belongs to a tensor
  }
}

TEST(GgufRobustnessTest, EverySingleBitFlipIsHandled) {
  std::vector<std::byte> bytes = EveryTypeGguf().bytes();
  int valid = 0, invalid = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    (TouchCopy(bytes) ? valid : invalid)++;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_GT(valid, 0);  // a bit of a value or of the data
  EXPECT_GT(invalid, 0);
}

TEST(GgufRobustnessTest, EveryByteSetToExtremesIsHandled) {
  std::vector<std::byte> bytes = EveryTypeGguf().bytes();
  int invalid = 0;
  for (std::byte& byte : bytes) {
    const std::byte old = byte;
    for (const int value : {0x00, 0x7f, 0x80, 0xff}) {
      byte = static_cast<std::byte>(value);
      if (!TouchCopy(bytes)) ++invalid;
    }
    byte = old;
  }
  EXPECT_GT(invalid, 0);
}

TEST(GgufRobustnessTest, TheFuzzersCorpusIsHandled) {
  int files = 0, valid = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/gguf/corpus")) {
    std::ifstream stream(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    ++files;
    if (TouchCopy(std::as_bytes(std::span(bytes)))) ++valid;
  }
  EXPECT_GE(files, 6);
  EXPECT_GE(valid, 4);
  EXPECT_LT(valid, files);
}

}  // namespace
}  // namespace tandem::engine
