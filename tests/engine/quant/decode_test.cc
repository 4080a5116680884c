// Blocks of every format, read: against numbers worked out by hand, and against the public definition of the formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/engine/quant/quant_testing.h"

namespace tandem::engine {
namespace {

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

// A block whose byte i is (73 i + 41) mod 256, but for its scales: the half floats at `halves_at` are 1, and 0.5 where
// there is a second.
struct Vector {
  TensorType type;
  int halves_at, halves;
  std::array<float, 8> values;  // of the elements in kElements
  double weighted_sum;          // sum of (i + 1) * x[i] over the block
};

constexpr int kElements[8] = {0, 1, 5, 11, 18, 27, 30, 31};
constexpr int kIq1MScale = -1;   // the half lies in the top nibbles of four words
constexpr int kMxfp4Scale = -2;  // an exponent byte

// The numbers were computed once with ggml, the public definition of the formats.
const Vector kVectors[] = {
    Vector{TensorType::kQ4_0, 0, 1, {3, -4, 0, 6, -4, 5, 3, -8}, -799},
    Vector{TensorType::kQ4_1, 0, 2, {13.5, 6.5, 10.5, 0.5, 13.5, 7.5, 4.5, 9.5}, 3730},
    Vector{TensorType::kQ5_0, 0, 1, {15, 8, 12, -14, 7, -16, -3, 2}, -1185},
    Vector{TensorType::kQ5_1, 0, 2, {17.5, 10.5, 14.5, 4.5, 16.5, 25.5, 6.5, 11.5}, 8312},
    Vector{TensorType::kQ8_0, 0, 1, {-69, 4, 40, -34, -35, 110, 73, -110}, -688},
    Vector{TensorType::kQ2_K, 80, 2, {8, 17, 17, -1, 2.5, -3.5, 2.5, -3.5}, 250990},
    Vector{TensorType::kQ3_K, 108, 1, {-7, 14, 14, 28, 6, -8, 6, -8}, 34746},
    Vector{TensorType::kQ4_K, 0, 2, {92.5, 1.5, 53.5, 131.5, 118.5, 131.5, 66.5, -24.5}, 7369368},
    Vector{TensorType::kQ5_K, 0, 2, {300.5, 1.5, 53.5, 131.5, 326.5, 131.5, 274.5, -24.5}, 14904504},
    Vector{TensorType::kQ6_K, 208, 1, {161, -46, -138, 460, 1350, -1000, 1150, -1600}, -1628128},
    Vector{TensorType::kIQ2_XXS, 0, 1, {-123.625, -123.625, 71.875, 23, -123.625, 23, -23, 71.875}, 37614},
    Vector{TensorType::kIQ2_XS, 0, 1, {23, -71.875, 71.875, -71.875, -166.625, -31, -31, -31}, 29240.625},
    Vector{TensorType::kIQ3_XXS, 0, 1, {-297, -243, -81, -81, -81, 135, 189, -243}, 421172.5},
    Vector{TensorType::kIQ1_S, 0, 1, {0.625, 0.625, 0.625, 0.625, 5.625, 0.625, -4.375, 0.625}, -11804},
    Vector{TensorType::kIQ4_NL, 0, 1, {38, -49, 1, 89, -49, 69, 38, -127}, -12076},
    Vector{TensorType::kIQ3_S, 0, 1, {-35, -7, 105, -7, -7, -63, 91, 77}, -13838},
    Vector{TensorType::kIQ2_S, 0, 1, {-7, -21.875, 21.875, 21.875, -28.125, 48.375, 9, -48.375}, -5880.75},
    Vector{TensorType::kIQ4_XS, 0, 1, {-3016, 725, 2581, -1421, -3683, 377, -638, 1102}, 883051},
    Vector{TensorType::kIQ1_M, kIq1MScale, 1, {2.625, -3.375, -0.375, 3.375, -6.125, 6.125, -0.875, -7.875}, -6908},
    Vector{TensorType::kTQ1_0, 52, 1, {-1, 0, 0, -1, -1, 1, 1, -1}, -747},
    Vector{TensorType::kTQ2_0, 64, 1, {0, 1, 1, -1, 2, -1, 2, -1}, 17068},
    Vector{TensorType::kMXFP4, kMxfp4Scale, 1, {2, -3, -12, 6, 0, -1, 12, -3}, 626},
};

class DecodeTest : public ::testing::TestWithParam<Vector> {};

std::vector<std::byte> VectorBlock(const Vector& vector) {
  std::vector<std::byte> block(FindBlockFormat(vector.type)->block_bytes);
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::byte>((i * 73 + 41) % 256);
  if (vector.halves_at == kIq1MScale) {
    constexpr uint8_t kTops[4] = {0x00, 0x00, 0xc0, 0x30};
    for (int i = 0; i < 4; ++i) block[49 + 2 * i] = (block[49 + 2 * i] & std::byte{15}) | std::byte{kTops[i]};
  } else if (vector.halves_at == kMxfp4Scale) {
    block[0] = std::byte{128};
  } else {
    constexpr uint16_t kHalves[2] = {0x3c00, 0x3800};
    std::memcpy(block.data() + vector.halves_at, kHalves, 2 * vector.halves);
  }
  return block;
}

TEST_P(DecodeTest, ValuesAreThoseOfThePublicDefinition) {
  const std::vector<float> row = Dequantize(GetParam().type, VectorBlock(GetParam()));
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) sum += static_cast<double>(i + 1) * row[i];
  for (int i = 0; i < 8; ++i) EXPECT_EQ(row[kElements[i]], GetParam().values[i]) << kElements[i];
  EXPECT_EQ(sum, GetParam().weighted_sum);
}

// Whatever the bytes are, the integers keep the bounds that the kernels' arithmetic is made for, and the values follow
// from them.
TEST_P(DecodeTest, AnyBytesGiveIntegersWithinBounds) {
  const BlockFormat& format = *FindBlockFormat(GetParam().type);
  std::mt19937 engine(5);
  std::vector<std::byte> block(format.block_bytes);
  for (int round = 0; round < 300; ++round) {
    for (std::byte& b : block) b = static_cast<std::byte>(round == 0 ? 0 : round == 1 ? 255 : engine() & 255);
    IntegerBlock integers;
    format.decode(block.data(), &integers);
    const std::vector<float> row = Dequantize(format.type, block);
    for (size_t i = 0; i < format.block_elements; ++i) {
      const int scale = integers.scale[i / 16], min = integers.min[i / 16];
      ASSERT_TRUE(scale >= -128 && scale <= 127 && min >= 0 && min <= 63);
      const float want = integers.d * static_cast<float>(scale) * static_cast<float>(integers.q[i]) -
                         integers.dmin * static_cast<float>(min);
      ASSERT_TRUE(row[i] == want || (std::isnan(row[i]) && std::isnan(want))) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DecodeTest, ::testing::ValuesIn(kVectors),
                         [](const auto& info) { return std::string(FindBlockFormat(info.param.type)->name); });

TEST(Mxfp4Test, EveryExponentHasItsPowerOfTwo) {
  for (int e = 0; e < 256; ++e) {
    std::vector<std::byte> block(17, std::byte{0x12});  // levels 2 (low) and 1 (high)
    block[0] = static_cast<std::byte>(e);
    const std::vector<float> row = Dequantize(TensorType::kMXFP4, block);
    EXPECT_EQ(row[0], std::ldexp(2.0f, e - 128)) << e;
    EXPECT_EQ(row[16], std::ldexp(1.0f, e - 128)) << e;
  }
}

TEST(DecodeTest, EveryQuantisedFormatHasAVector) {
  size_t formats = 0;
  for (const BlockFormat& format : AllBlockFormats()) formats += format.decode != nullptr ? 1 : 0;
  EXPECT_EQ(std::size(kVectors), formats);
  EXPECT_EQ(formats, 22u);
}

}  // namespace
}  // namespace tandem::engine
