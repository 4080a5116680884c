#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/engine/quant/quant_testing.h"

namespace tandem::engine {
namespace {

constexpr size_t kBytes = 34;

std::vector<std::byte> Block(uint16_t scale, const std::array<int8_t, 32>& quants) {
  std::vector<std::byte> block = {static_cast<std::byte>(scale & 0xff), static_cast<std::byte>(scale >> 8)};
  for (const int8_t q : quants) block.push_back(static_cast<std::byte>(q));
  return block;
}

TEST(Q80Test, DequantizesAHandMadeBlock) {
  std::array<int8_t, 32> quants;
  for (int i = 0; i < 32; ++i) quants[i] = static_cast<int8_t>(i * 8 - 128);
  const std::vector<float> row = Dequantize(TensorType::kQ8_0, Block(0x3400, quants));  // 0x3400 = 0.25
  for (int i = 0; i < 32; ++i) EXPECT_EQ(row[i], 0.25f * (i * 8 - 128));
}

TEST(Q80Test, QuantizingADequantizedBlockGivesTheSameBytes) {
  for (const uint16_t scale : {0x3400, 0x2e66, 0x0001, 0x7bff}) {
    std::array<int8_t, 32> quants;
    for (int i = 0; i < 32; ++i) quants[i] = static_cast<int8_t>((i * 37) % 255 - 127);
    quants[5] = -127;
    const std::vector<std::byte> block = Block(scale, quants);
    EXPECT_EQ(Quantize(TensorType::kQ8_0, Dequantize(TensorType::kQ8_0, block)), block) << scale;
  }
}

TEST(Q80Test, TiesRoundToEven) {
  std::vector<float> row(32, 0.0f);
  row[0] = 127;  // scale 1
  row[1] = 2.5f;
  row[2] = 3.5f;
  row[3] = -2.5f;
  const std::vector<float> back = RoundTrip(TensorType::kQ8_0, row);
  EXPECT_THAT(std::vector<float>(back.begin(), back.begin() + 4), ::testing::ElementsAre(127, 2, 4, -2));
}

TEST(Q80Test, GaussianErrorIsSmall) {
  const std::vector<float> row = GaussianRow(1 << 16, 1);
  constexpr double kMeasured = 0.00535;
  EXPECT_LT(RelativeError(RoundTrip(TensorType::kQ8_0, row), row), 1.05 * kMeasured);
}

TEST(Q80Test, ZerosStayZeroAndHaveScaleZero) {
  EXPECT_EQ(Quantize(TensorType::kQ8_0, std::vector<float>(32, 0.0f)), std::vector<std::byte>(kBytes, std::byte{0}));
}

TEST(Q80Test, ValuesTooSmallForAnyScaleBecomeZero) {
  EXPECT_THAT(RoundTrip(TensorType::kQ8_0, std::vector<float>(32, 1e-40f)), ::testing::Each(0.0f));
}

TEST(Q80Test, ExtremesSaturateAndNanIsZero) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> row(32, 1.0f);
  row[0] = kInfinity;
  row[1] = -kInfinity;
  row[2] = std::numeric_limits<float>::quiet_NaN();
  row[3] = std::numeric_limits<float>::lowest();
  const std::vector<float> back = RoundTrip(TensorType::kQ8_0, row);
  EXPECT_EQ(back[0], 65504.0f * 127);
  EXPECT_EQ(back[1], -65504.0f * 127);
  EXPECT_EQ(back[2], 0.0f);
  EXPECT_EQ(back[3], -65504.0f * 127);
}

}  // namespace
}  // namespace tandem::engine
