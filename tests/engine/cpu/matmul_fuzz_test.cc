// Runs the seeds of the block format fuzzer in every build, and bytes of its own at the edges.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <sstream>
#include <vector>

namespace tandem::engine {
bool FuzzQuant(std::span<const std::byte> bytes);  // tests/fuzz/quant/quant_fuzz_body.cc

namespace {

constexpr int kFormats = 25;

TEST(MatMulFuzzTest, SeedsKeepEveryPromise) {
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/quant/corpus")) {
    std::ostringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    const std::string text = bytes.str();
    SCOPED_TRACE(entry.path().string());
    (FuzzQuant(std::as_bytes(std::span(text))) ? accepted : refused) += 1;
  }
  EXPECT_EQ(accepted, kFormats);
  EXPECT_EQ(refused, 1);
}

// Scales that are NaN, infinite or sub-normal, codes at the ends of their tables: every byte the same, and random ones.
TEST(MatMulFuzzTest, HostileBytesKeepEveryPromise) {
  std::mt19937 engine(9);
  for (int format = 0; format < kFormats; ++format) {
    std::vector<std::byte> bytes(1 + 3 * 256);
    for (int round = 0; round < 24; ++round) {
      constexpr int kFills[] = {0x00, 0xff, 0x7f, 0x80, 0x7c, 0xfc, 0x01, 0x55};
      for (std::byte& b : bytes)
        b = static_cast<std::byte>(round < 8 ? kFills[round] : static_cast<int>(engine() & 255));
      bytes[0] = static_cast<std::byte>(format);
      EXPECT_TRUE(FuzzQuant(bytes));
    }
  }
}

}  // namespace
}  // namespace tandem::engine
