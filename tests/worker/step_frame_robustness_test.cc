// The seeds of the step frame fuzzer, and damaged forms of them, without libFuzzer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <vector>

namespace tandem::worker {

int FuzzStepFrame(std::span<const uint8_t> bytes);  // tests/fuzz/proto/step_frame_fuzz_body.cc

namespace {

std::vector<std::vector<uint8_t>> Seeds() {
  std::vector<std::vector<uint8_t>> seeds;
  const std::filesystem::path folder = std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/fuzz/proto/corpus";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

TEST(StepFrameRobustnessTest, EverySeedIsExecuted) {
  const auto seeds = Seeds();
  EXPECT_EQ(seeds.size(), 7u);
  for (const auto& seed : seeds) EXPECT_EQ(FuzzStepFrame(seed), 1);  // by the stage that it is meant for
}

TEST(StepFrameRobustnessTest, EveryTruncationReturns) {
  for (const auto& seed : Seeds()) {
    const size_t step = std::max<size_t>(1, seed.size() / 300);
    for (size_t size = 0; size < seed.size(); size += step) FuzzStepFrame(std::span(seed).first(size));
  }
}

TEST(StepFrameRobustnessTest, EveryDamagedByteReturns) {
  std::mt19937 random(1);
  int executed = 0;
  for (const auto& seed : Seeds()) {
    for (int i = 0; i < 300; ++i) {
      std::vector<uint8_t> bytes = seed;
      // The first bytes are structure, the last ones hidden values: damage both.
      const size_t range = i % 2 == 0 ? std::min<size_t>(bytes.size(), 160) : bytes.size();
      bytes[random() % range] = static_cast<uint8_t>(random());
      executed += FuzzStepFrame(bytes);
    }
  }
  EXPECT_GT(executed, 0);  // some damage is harmless: the test reaches the stage
}

}  // namespace
}  // namespace tandem::worker
