// Every quantiser: its error on Gaussian rows, its behaviour at the edges, and what importance does to it.
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

struct Bound {
  TensorType type;
  double measured;  // relative RMS error on Gaussian rows
  double constant;  // bound of the relative error of a block of equal values
};

class QuantizerTest : public ::testing::TestWithParam<Bound> {
 protected:
  TensorType type() const { return GetParam().type; }
};

// 3% above what the search reaches: a weaker search, a wrong place of a bit or a lost scale exceeds it.
TEST_P(QuantizerTest, GaussianErrorIsSmall) {
  const std::vector<float> row = GaussianRow(256 * 64, 1);
  EXPECT_LT(RelativeError(RoundTrip(type(), row), row), 1.03 * GetParam().measured);
}

TEST_P(QuantizerTest, ErrorDoesNotDependOnTheUnit) {
  std::vector<float> row = GaussianRow(256 * 8, 2);
  const double error = RelativeError(RoundTrip(type(), row), row);
  for (const float unit : {1e-2f, 1e3f}) {
    std::vector<float> scaled = row;
    for (float& x : scaled) x *= unit;
    EXPECT_NEAR(RelativeError(RoundTrip(type(), scaled), scaled), error, 0.05 * error) << unit;
  }
}

// Sub-blocks of one super-block share a factor, so a small one next to a large one keeps fewer scale bits, but some.
TEST_P(QuantizerTest, SubBlocksOfUnlikeSizeKeepTheirOwnScale) {
  if (type() == TensorType::kTQ1_0 || type() == TensorType::kTQ2_0) return;  // one scale for all
  std::vector<float> row = GaussianRow(256, 3);
  for (size_t i = 0; i < 32; ++i) row[i] *= 0.05f;
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_LT(RelativeError(std::span(back).first(32), std::span(row).first(32)),
            std::max(0.3, 2.5 * GetParam().measured));
}

TEST_P(QuantizerTest, ZerosStayZero) {
  EXPECT_THAT(RoundTrip(type(), std::vector<float>(512, 0.0f)), ::testing::Each(0.0f));
}

TEST_P(QuantizerTest, ConstantBlocksKeepTheirValue) {
  for (const float value : {1.0f, -1.0f, 3.7f, -250.0f}) {
    const std::vector<float> row(256, value);
    EXPECT_LT(RelativeError(RoundTrip(type(), row), row), GetParam().constant) << value;
  }
}

TEST_P(QuantizerTest, OneSidedBlocksKeepTheirSign) {
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> row = GaussianRow(256, 4);
    for (float& x : row) x = sign * (std::abs(x) + 0.5f);
    EXPECT_LT(RelativeError(RoundTrip(type(), row), row), GetParam().measured) << sign;
  }
}

TEST_P(QuantizerTest, OneOutlierIsKept) {
  std::vector<float> row(256, 0.0f);
  row[77] = -8.0f;
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_NEAR(back[77], -8.0f, 0.02f);
  EXPECT_NEAR(back[76], 0.0f, 0.07f);  // IQ4 has no zero: its least level is 1 / 127 of the largest
  EXPECT_EQ(back[200], 0.0f);
}

TEST_P(QuantizerTest, ValuesTooSmallForAnyScaleBecomeZero) {
  std::vector<float> row(256, 1e-40f);
  row[3] = -1e-40f;
  EXPECT_THAT(RoundTrip(type(), row), ::testing::Each(0.0f));
}

TEST_P(QuantizerTest, ExtremesSaturateAndNanIsZero) {
  std::vector<float> row(256, 0.0f);
  row[0] = kInfinity;
  row[40] = -kInfinity;
  row[80] = std::numeric_limits<float>::quiet_NaN();
  row[120] = std::numeric_limits<float>::max();
  row[160] = std::numeric_limits<float>::lowest();
  const std::vector<float> back = RoundTrip(type(), row);
  EXPECT_THAT(back, ::testing::Each(::testing::Truly([](float x) { return std::isfinite(x); })));
  EXPECT_GT(back[0], 65000.0f);
  EXPECT_LT(back[40], -65000.0f);
  EXPECT_EQ(back[80], 0.0f);
  EXPECT_GT(back[120], 65000.0f);
  EXPECT_LT(back[160], -65000.0f);
}

// An importance of 1 changes nothing; where it differs, the errors move from the important elements to the others.
TEST_P(QuantizerTest, ImportantElementsKeepMorePrecision) {
  const std::vector<float> row = GaussianRow(256 * 16, 5);
  std::vector<float> importance(row.size(), 1.0f);
  EXPECT_EQ(Quantize(type(), row, importance), Quantize(type(), row));
  if (type() == TensorType::kQ8_0) return;
  for (size_t i = 0; i < row.size(); i += 2) importance[i] = 100.0f;
  const auto error = [&](const std::vector<float>& back, size_t first) {
    double sum = 0;
    for (size_t i = first; i < row.size(); i += 2) sum += (back[i] - row[i]) * (back[i] - row[i]);
    return sum;
  };
  const std::vector<float> plain = RoundTrip(type(), row);
  const std::vector<float> weighted = Dequantize(type(), Quantize(type(), row, importance));
  EXPECT_LT(error(weighted, 0), error(plain, 0));
  EXPECT_GT(error(weighted, 1), error(plain, 1));
}

TEST_P(QuantizerTest, UselessImportanceCountsAsEqual) {
  const std::vector<float> row = GaussianRow(256, 6);
  const std::vector<std::byte> plain = Quantize(type(), row);
  for (const float value : {0.0f, -1.0f, kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(Quantize(type(), row, std::vector<float>(256, value)), plain) << value;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizerTest,
    ::testing::Values(Bound{TensorType::kQ4_0, 0.0812, 0.001}, Bound{TensorType::kQ4_1, 0.0692, 0.001},
                      Bound{TensorType::kQ5_0, 0.0403, 0.001}, Bound{TensorType::kQ5_1, 0.0332, 0.001},
                      Bound{TensorType::kQ8_0, 0.00536, 0.001}, Bound{TensorType::kQ2_K, 0.2592, 0.001},
                      Bound{TensorType::kQ3_K, 0.1428, 0.001}, Bound{TensorType::kQ4_K, 0.0698, 0.001},
                      Bound{TensorType::kQ5_K, 0.0346, 0.001}, Bound{TensorType::kQ6_K, 0.0172, 0.001},
                      Bound{TensorType::kIQ4_NL, 0.0734, 0.001}, Bound{TensorType::kIQ4_XS, 0.0737, 0.001},
                      Bound{TensorType::kMXFP4, 0.1118, 0.15}, Bound{TensorType::kTQ1_0, 0.4354, 0.001},
                      Bound{TensorType::kTQ2_0, 0.4354, 0.001}),
    [](const auto& info) { return std::string(FindBlockFormat(info.param.type)->name); });

}  // namespace
}  // namespace tandem::engine
