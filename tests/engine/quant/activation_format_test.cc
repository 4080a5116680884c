#include "engine/quant/activation_format.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::engine {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> There(TensorType type, const std::vector<float>& values) {
  std::vector<std::byte> bytes(ActivationBytes(type, values.size()));
  PackActivations(type, values, bytes.data());
  std::vector<float> back(values.size());
  UnpackActivations(type, bytes.data(), back);
  return back;
}

TEST(ActivationFormatTest, NamesAndBytes) {
  EXPECT_THAT(ActivationTypeNames(), ElementsAre("f32", "f16", "bf16", "q8_0"));
  EXPECT_EQ(*ParseActivationType("bf16"), TensorType::kBF16);
  EXPECT_THAT(std::string(ParseActivationType("q4_0").status().message()), HasSubstr("f32, f16, bf16, q8_0"));
  EXPECT_EQ(ActivationBytes(TensorType::kF32, 4096), 16384u);
  EXPECT_EQ(ActivationBytes(TensorType::kF16, 4096), 8192u);
  EXPECT_EQ(ActivationBytes(TensorType::kBF16, 4096), 8192u);
  EXPECT_EQ(ActivationBytes(TensorType::kQ8_0, 4096), 4352u);
}

TEST(ActivationFormatTest, RowsMustBeOfWholeBlocks) {
  EXPECT_TRUE(CheckActivationType(TensorType::kQ8_0, 4096).ok());
  EXPECT_TRUE(CheckActivationType(TensorType::kF16, 33).ok());
  const absl::Status odd = CheckActivationType(TensorType::kQ8_0, 48);
  EXPECT_EQ(odd.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(odd.message()), HasSubstr("48 values"));
  EXPECT_EQ(CheckActivationType(TensorType::kQ4_K, 4096).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ActivationFormatTest, ErrorIsThatOfTheType) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(2048);
  for (float& value : values) value = normal(random);
  EXPECT_EQ(There(TensorType::kF32, values), values);
  const struct {
    TensorType type;
    float of_value, of_block;  // largest error as a share of the value, and of the block's largest value
  } cases[] = {{TensorType::kF16, 0x1p-11f, 0}, {TensorType::kBF16, 0x1p-8f, 0}, {TensorType::kQ8_0, 0, 0.501f / 127}};
  for (const auto& c : cases) {
    const std::vector<float> back = There(c.type, values);
    EXPECT_NE(back, values);
    for (size_t block = 0; block < values.size(); block += 32) {
      float largest = 0;
      for (size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::abs(values[i]));
      for (size_t i = block; i < block + 32; ++i) {
        ASSERT_LE(std::abs(back[i] - values[i]), c.of_value * std::abs(values[i]) + c.of_block * largest)
            << ActivationTypeName(c.type) << " " << i;
      }
    }
  }
}

TEST(ActivationFormatTest, FiniteValuesStayFinite) {
  const float most = std::numeric_limits<float>::max();
  const std::vector<float> large(64, -most);
  EXPECT_THAT(There(TensorType::kF16, large), Each(-65504.0f));
  EXPECT_THAT(There(TensorType::kBF16, large), Each(-0x1.fep127f));
  EXPECT_THAT(There(TensorType::kQ8_0, large), Each(-65504.0f * 127));
  EXPECT_THAT(There(TensorType::kF32, large), Each(-most));
  EXPECT_THAT(There(TensorType::kF16, std::vector<float>(32, 65519.0f)), Each(65504.0f));
}

TEST(ActivationFormatTest, NotANumberIsNotHiddenByTheFloats) {
  const std::vector<float> values(32, std::numeric_limits<float>::quiet_NaN());
  for (TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    for (float value : There(type, values)) EXPECT_TRUE(std::isnan(value)) << ActivationTypeName(type);
  }
  EXPECT_THAT(There(TensorType::kQ8_0, values), Each(0.0f));
}

}  // namespace
}  // namespace tandem::engine
