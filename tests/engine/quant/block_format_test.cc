#include "engine/quant/block_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/engine/quant/quant_testing.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using Dims = std::vector<uint64_t>;

TEST(BlockFormatTest, SizesAreTheSumsOfTheirFields) {
  const auto bytes = [](absl::string_view name) { return FindBlockFormat(name)->block_bytes; };
  const auto elements = [](absl::string_view name) { return FindBlockFormat(name)->block_elements; };
  constexpr uint32_t kHalf = 2;
  EXPECT_EQ(bytes("Q4_0"), kHalf + 32 / 2);
  EXPECT_EQ(bytes("Q4_1"), 2 * kHalf + 32 / 2);
  EXPECT_EQ(bytes("Q5_0"), kHalf + 32 / 8 + 32 / 2);
  EXPECT_EQ(bytes("Q5_1"), 2 * kHalf + 32 / 8 + 32 / 2);
  EXPECT_EQ(bytes("Q8_0"), kHalf + 32);
  EXPECT_EQ(bytes("Q8_1"), 2 * kHalf + 32);
  EXPECT_EQ(bytes("Q2_K"), 2 * kHalf + 16 + 256 / 4);
  EXPECT_EQ(bytes("Q3_K"), kHalf + 12 + 256 / 8 + 256 / 4);
  EXPECT_EQ(bytes("Q4_K"), 2 * kHalf + 12 + 256 / 2);
  EXPECT_EQ(bytes("Q5_K"), 2 * kHalf + 12 + 256 / 8 + 256 / 2);
  EXPECT_EQ(bytes("Q6_K"), kHalf + 16 + 256 / 4 + 256 / 2);
  EXPECT_EQ(bytes("Q8_K"), 4 + 256 + 16 * 2);
  EXPECT_EQ(bytes("IQ2_XXS"), kHalf + 256 / 4);
  EXPECT_EQ(bytes("IQ2_XS"), kHalf + 256 / 4 + 8);
  EXPECT_EQ(bytes("IQ2_S"), kHalf + 256 / 4 + 8 + 8);
  EXPECT_EQ(bytes("IQ3_XXS"), kHalf + 256 / 4 + 256 / 8);
  EXPECT_EQ(bytes("IQ3_S"), kHalf + 256 / 4 + 8 + 256 / 8 + 4);
  EXPECT_EQ(bytes("IQ1_S"), kHalf + 256 / 8 + 16);
  EXPECT_EQ(bytes("IQ1_M"), 256 / 8 + 16 + 8);
  EXPECT_EQ(bytes("IQ4_NL"), kHalf + 32 / 2);
  EXPECT_EQ(bytes("IQ4_XS"), kHalf + 2 + 4 + 256 / 2);
  EXPECT_EQ(bytes("TQ1_0"), kHalf + 48 + 4);
  EXPECT_EQ(bytes("TQ2_0"), kHalf + 256 / 4);
  EXPECT_EQ(bytes("MXFP4"), 1u + 32 / 2);
  for (const char* name : {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "IQ4_NL", "MXFP4"}) {
    EXPECT_EQ(elements(name), 32u) << name;
  }
  for (const BlockFormat& format : AllBlockFormats()) {
    EXPECT_EQ(format.block_elements == 256, format.block_bytes >= 50) << std::string(format.name);
    EXPECT_GE(format.bits_per_weight(), 1.5) << std::string(format.name);
    EXPECT_LE(format.bits_per_weight(), 64) << std::string(format.name);
  }
}

TEST(BlockFormatTest, AllFormatsAreInOrderOfTheirCodesAndFoundByCodeAndName) {
  int64_t previous = -1;
  for (const BlockFormat& format : AllBlockFormats()) {
    const int64_t code = static_cast<uint32_t>(format.type);
    EXPECT_GT(code, previous);
    previous = code;
    EXPECT_EQ(FindBlockFormat(format.type), &format);
    EXPECT_EQ(FindBlockFormat(format.name), &format);
    EXPECT_TRUE(format.computable() || (format.decode == nullptr && format.quantize == nullptr));
  }
  EXPECT_EQ(AllBlockFormats().size(), 32u);
}

TEST(BlockFormatTest, NamesAreFoundInAnyCase) {
  EXPECT_EQ(FindBlockFormat("q4_k"), FindBlockFormat(TensorType::kQ4_K));
  EXPECT_EQ(FindBlockFormat("Bf16"), FindBlockFormat(TensorType::kBF16));
}

TEST(BlockFormatTest, UnknownCodesAndNamesAreNull) {
  EXPECT_EQ(FindBlockFormat(static_cast<TensorType>(4)), nullptr);  // retired
  EXPECT_EQ(FindBlockFormat(static_cast<TensorType>(1000)), nullptr);
  EXPECT_EQ(FindBlockFormat("q4"), nullptr);
  EXPECT_EQ(FindBlockFormat(""), nullptr);
}

TEST(BlockFormatTest, ComputableFormatsAreTheOnesWithConversions) {
  std::vector<std::string> names;
  for (const BlockFormat& format : AllBlockFormats()) {
    if (format.computable()) names.emplace_back(format.name);
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                                     "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
                                                     "IQ3_S", "IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M",
                                                     "TQ1_0", "TQ2_0", "MXFP4"));
}

TEST(TensorBytesTest, MultipliesBlocksAndDims) {
  EXPECT_EQ(*TensorBytes(TensorType::kF32, Dims{3}), 12u);
  EXPECT_EQ(*TensorBytes(TensorType::kQ8_0, Dims{64, 3, 5}), 2u * 34 * 15);
  EXPECT_EQ(*TensorBytes(TensorType::kQ4_K, Dims{512, 2, 1, 7}), 2u * 144 * 14);
}

TEST(TensorBytesTest, LargestSizeIsAccepted) {
  EXPECT_EQ(*TensorBytes(TensorType::kI8, Dims{std::numeric_limits<int64_t>::max()}),
            static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
}

TEST(TensorBytesTest, BadShapesReturnInvalidArgument) {
  const auto error = [](uint32_t type, const Dims& dims) {
    const absl::Status status = TensorBytes(static_cast<TensorType>(type), dims).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error(31, {32}), HasSubstr("type 31"));
  EXPECT_THAT(error(0, {}), HasSubstr("at least one dimension"));
  EXPECT_THAT(error(0, {0}), HasSubstr("dimension 0 is 0"));
  EXPECT_THAT(error(0, {4, 2, 0}), HasSubstr("dimension 2 is 0"));
  EXPECT_THAT(error(8, {33}), HasSubstr("multiple of 32"));
  EXPECT_THAT(error(12, {128, 2}), HasSubstr("multiple of 256"));
  EXPECT_THAT(error(24, {uint64_t{1} << 63}), HasSubstr("63 bits"));
  EXPECT_THAT(error(0, {uint64_t{1} << 32, uint64_t{1} << 32}), HasSubstr("63 bits"));
  EXPECT_THAT(error(0, {1, 1, 1, uint64_t{1} << 61}), HasSubstr("63 bits"));
}

TEST(FloatFormatsTest, F32IsACopy) {
  const std::vector<float> row = {0.0f, -0.0f, 1.5f, -1e-42f, 3e38f, std::numeric_limits<float>::infinity()};
  const std::vector<float> back = RoundTrip(TensorType::kF32, row);
  for (size_t i = 0; i < row.size(); ++i) EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(row[i]));
}

TEST(FloatFormatsTest, F16RoundsToNearestEven) {
  // 2049 lies between 2048 and 2050, 2051 between 2050 and 2052.
  EXPECT_THAT(RoundTrip(TensorType::kF16, std::vector<float>{1.0f, 2049.0f, 2051.0f, -70000.0f}),
              ::testing::ElementsAre(1.0f, 2048.0f, 2052.0f, -std::numeric_limits<float>::infinity()));
}

TEST(FloatFormatsTest, Bf16RoundsToNearestEven) {
  const auto to_bf16 = [](float value) {
    const std::vector<std::byte> bytes = Quantize(TensorType::kBF16, std::vector<float>{value});
    return std::to_integer<uint32_t>(bytes[0]) | std::to_integer<uint32_t>(bytes[1]) << 8;
  };
  EXPECT_EQ(to_bf16(1.0f), 0x3f80u);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80u);  // tie to even: down
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82u);  // tie to even: up
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81u);
  EXPECT_EQ(to_bf16(-std::bit_cast<float>(0x3f808001u)), 0xbf81u);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()), 0x7f80u);  // rounds to infinity
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x00000001u)), 0u);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x7f800001u)), 0x7fc0u);  // a NaN stays one
}

TEST(FloatFormatsTest, EveryBf16RoundTrips) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const std::byte block[2] = {static_cast<std::byte>(bits & 0xff), static_cast<std::byte>(bits >> 8)};
    const std::vector<float> value = Dequantize(TensorType::kBF16, block);
    ASSERT_EQ(std::bit_cast<uint32_t>(value[0]), bits << 16);
    const std::vector<std::byte> back = Quantize(TensorType::kBF16, value);
    const uint32_t expected = std::isnan(value[0]) ? bits | 0x40 : bits;
    ASSERT_EQ(std::to_integer<uint32_t>(back[0]) | std::to_integer<uint32_t>(back[1]) << 8, expected);
  }
}

}  // namespace
}  // namespace tandem::engine
