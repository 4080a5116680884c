#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/engine/quant/quant_testing.h"

namespace tandem::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Q4KTest, DequantizesAHandMadeBlock) {
  constexpr int kScale[8] = {1, 2, 3, 4, 17, 34, 51, 63};
  constexpr int kMin[8] = {5, 6, 7, 8, 18, 0, 63, 33};
  std::vector<std::byte> block = Bytes({
      0x00, 0x38,              // d = 0.5
      0x00, 0x34,              // dmin = 0.25
      0x41, 0x82, 0xc3, 0xc4,  // scales 0-3, upper bits of scales 4-7
      0x45, 0x06, 0xc7, 0x88,  // mins 0-3, upper bits of mins 4-7
      0x21, 0x02, 0xf3, 0x1f,  // low nibbles: scales 4-7 below, mins 4-7 above
  });
  for (int pair = 0; pair < 4; ++pair) {
    for (int l = 0; l < 32; ++l) block.push_back(static_cast<std::byte>((l % 16) | (15 - l % 16) << 4));
  }
  const std::vector<float> row = Dequantize(TensorType::kQ4_K, block);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 32, l = i % 32;
    const int q = sub % 2 == 0 ? l % 16 : 15 - l % 16;
    EXPECT_EQ(row[i], 0.5f * kScale[sub] * q - 0.25f * kMin[sub]) << i;
  }
}

TEST(Q6KTest, DequantizesAHandMadeBlock) {
  std::vector<std::byte> block(210);
  // First half, element 0 of the four runs; second half, element 17.
  block[0] = std::byte{0xa5};               // run 0 low nibble 5, run 2 low nibble 10
  block[32] = std::byte{0x3c};              // run 1: 12, run 3: 3
  block[128] = std::byte{0b11100100};       // upper bits of runs 0, 1, 2, 3: 0, 1, 2, 3
  block[64 + 17] = std::byte{0x0f};         // run 0: 15, run 2: 0
  block[64 + 49] = std::byte{0xf0};         // run 1: 0, run 3: 15
  block[160 + 17] = std::byte{0b00011011};  // 3, 2, 1, 0
  for (int s = 0; s < 16; ++s) block[192 + s] = static_cast<std::byte>(static_cast<int8_t>(s * 16 - 127));
  block[208] = std::byte{0x00};
  block[209] = std::byte{0x34};  // d = 0.25
  const std::vector<float> row = Dequantize(TensorType::kQ6_K, block);
  const auto expected = [](int i, int q) { return 0.25f * static_cast<float>(i / 16 * 16 - 127) * (q - 32); };
  EXPECT_EQ(row[0], expected(0, 5));
  EXPECT_EQ(row[32], expected(32, 12 + 16));
  EXPECT_EQ(row[64], expected(64, 10 + 32));
  EXPECT_EQ(row[96], expected(96, 3 + 48));
  EXPECT_EQ(row[128 + 17], expected(145, 15 + 48));
  EXPECT_EQ(row[160 + 17], expected(177, 0 + 32));
  EXPECT_EQ(row[192 + 17], expected(209, 0 + 16));
  EXPECT_EQ(row[224 + 17], expected(241, 15));
  EXPECT_EQ(row[1], expected(1, 0));
  EXPECT_EQ(row[255], expected(255, 0));
}

struct Bound {
  TensorType type;
  double measured;  // relative RMS error on Gaussian rows
};

class KFormatTest : public ::testing::TestWithParam<Bound> {
 protected:
  TensorType type() const { return GetParam().type; }
};

// 3% above what the search reaches: a weaker search, a wrong place of a bit or a lost scale exceeds it.
TEST_P(KFormatTest, GaussianErrorIsSmall) {
  const std::vector<float> row = GaussianRow(256 * 64, 1);
  EXPECT_LT(RelativeError(RoundTrip(type(), row), row), 1.03 * GetParam().measured);
}

TEST_P(KFormatTest, ErrorDoesNotDependOnTheUnit) {
  std::vector<float> row = GaussianRow(256 * 8, 2);
  const double error = RelativeError(RoundTrip(type(), row), row);
  for (const float unit : {1e-2f, 1e3f}) {
    std::vector<float> scaled = row;
    for (float& x : scaled) x *= unit;
    EXPECT_NEAR(RelativeError(RoundTrip(type(), scaled), scaled), error, 0.05 * error) << unit;
  }
}

// Sub-blocks of one super-block share a factor, so a small one next to a large one keeps fewer scale bits, but some.
TEST_P(KFormatTest, SubBlocksOfUnlikeSizeKeepTheirOwnScale) {
  std::vector<float> row = GaussianRow(256, 3);
  for (size_t i = 0; i < 32; ++i) row[i] *= 0.05f;
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_LT(RelativeError(std::span(back).first(32), std::span(row).first(32)), 0.3);
}

TEST_P(KFormatTest, ZerosStayZero) {
  EXPECT_THAT(RoundTrip(type(), std::vector<float>(512, 0.0f)), ::testing::Each(0.0f));
}

TEST_P(KFormatTest, ConstantBlocksKeepTheirValue) {
  for (const float value : {1.0f, -1.0f, 3.7f, -250.0f}) {
    const std::vector<float> row(256, value);
    EXPECT_LT(RelativeError(RoundTrip(type(), row), row), 0.001) << value;
  }
}

TEST_P(KFormatTest, OneSidedBlocksKeepTheirSign) {
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> row = GaussianRow(256, 4);
    for (float& x : row) x = sign * (std::abs(x) + 0.5f);
    EXPECT_LT(RelativeError(RoundTrip(type(), row), row), GetParam().measured) << sign;
  }
}

TEST_P(KFormatTest, OneOutlierIsKept) {
  std::vector<float> row(256, 0.0f);
  row[77] = -8.0f;
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_NEAR(back[77], -8.0f, 0.01f);
  EXPECT_NEAR(back[76], 0.0f, 0.01f);
  EXPECT_EQ(back[200], 0.0f);
}

TEST_P(KFormatTest, ValuesTooSmallForAnyScaleBecomeZero) {
  std::vector<float> row(256, 1e-40f);
  row[3] = -1e-40f;
  EXPECT_THAT(RoundTrip(type(), row), ::testing::Each(0.0f));
}

TEST_P(KFormatTest, ExtremesSaturateAndNanIsZero) {
  std::vector<float> row(256, 0.0f);
  row[0] = kInfinity;
  row[40] = -kInfinity;
  row[80] = std::numeric_limits<float>::quiet_NaN();
  row[120] = std::numeric_limits<float>::max();
  row[160] = std::numeric_limits<float>::lowest();
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_THAT(back, ::testing::Each(::testing::Truly([](float x) { return std::isfinite(x); })));
  EXPECT_GT(back[0], 1e6f);
  EXPECT_LT(back[40], -1e6f);
  EXPECT_EQ(back[80], 0.0f);
  EXPECT_GT(back[120], 1e6f);
  EXPECT_LT(back[160], -1e6f);
}

INSTANTIATE_TEST_SUITE_P(Formats, KFormatTest,
                         ::testing::Values(Bound{TensorType::kQ4_K, 0.0698}, Bound{TensorType::kQ6_K, 0.0172}),
                         [](const auto& info) { return std::string(FindBlockFormat(info.param.type)->name); });

}  // namespace
}  // namespace tandem::engine
