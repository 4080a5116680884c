#include "engine/cache/kv_pages.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/cache/int4_block.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

constexpr KvShape kShape = {
    .num_pages = 3, .layers = 2, .kv_heads = 2, .page_tokens = 16, .key_dim = 4, .value_dim = 4, .type = KvType::kF32};

std::unique_ptr<KvPages> MakePages(const KvShape& shape) {
  auto pages = KvPages::Create(shape, KernelsFor(Isa::kScalar));
  EXPECT_TRUE(pages.ok()) << pages.status();
  return *std::move(pages);
}

// A value that no other place of the pool has, and that F16 can hold.
float Mark(int page, int layer, int slot, int value, int head, int d) {
  return static_cast<float>((((page * 2 + layer) * 16 + slot) * 2 + value) * 8 + head * 4 + d);
}

// Where an element lies, in elements from the head's first: keys in tiles of 16 tokens, values in rows.
const std::byte* Key(const KvPages& pages, int page, int layer, int head, int slot, int d, int element_bytes) {
  const int element = slot / 16 * 16 * pages.shape().key_dim + d * 16 + slot % 16;
  return pages.keys(layer, head) + page * pages.page_bytes() + element * element_bytes;
}
const std::byte* Value(const KvPages& pages, int page, int layer, int head, int slot, int d, int element_bytes) {
  const int element = slot * pages.shape().value_dim + d;
  return pages.values(layer, head) + page * pages.page_bytes() + element * element_bytes;
}

class KvPagesTypeTest : public ::testing::TestWithParam<KvType> {};

TEST_P(KvPagesTypeTest, EveryRowIsStoredInItsOwnPlace) {
  KvShape shape = kShape;
  shape.type = GetParam();
  const auto pages = MakePages(shape);
  for (int page = 0; page < 3; ++page) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int slot = 0; slot < 16; ++slot) {
        float rows[2][8];
        for (int i = 0; i < 16; ++i) rows[i / 8][i % 8] = Mark(page, layer, slot, i / 8, i % 8 / 4, i % 4);
        pages->Write(page, layer, slot, rows[0], rows[1]);
      }
    }
  }
  for (int i = 0; i < 3 * 2 * 16 * 2 * 2 * 4; ++i) {
    const int d = i % 4, head = i / 4 % 2, value = i / 8 % 2, slot = i / 16 % 16, layer = i / 256 % 2, page = i / 512;
    const int bytes = shape.type == KvType::kF32 ? 4 : 2;
    const std::byte* at = (value == 0 ? Key : Value)(*pages, page, layer, head, slot, d, bytes);
    float stored;
    if (shape.type == KvType::kF32) {
      std::memcpy(&stored, at, 4);
    } else {
      uint16_t half;
      std::memcpy(&half, at, 2);
      stored = HalfToFloat(half);
    }
    // 1536 marks below 2048 * 2: all exact in F16 up to 2048, and 3072 is the largest.
    const float mark = Mark(page, layer, slot, value, head, d);
    EXPECT_EQ(stored, shape.type == KvType::kF32 ? mark : HalfToFloat(FloatToHalf(mark)));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, KvPagesTypeTest, ::testing::Values(KvType::kF32, KvType::kF16));

TEST(KvPagesTest, F16RoundsToNearestEven) {
  KvShape shape = kShape;
  shape.type = KvType::kF16;
  const auto pages = MakePages(shape);
  // Between 2048 and 4096 halves are 2 apart: ties go to the even mantissa.
  const float keys[8] = {2049.0f, 2051.0f, 2049.5f, -2049.0f, 0, 0, 0, 0};
  const float values[8] = {};
  pages->Write(1, 0, 0, keys, values);
  uint16_t halves[4];
  for (int d = 0; d < 4; ++d) std::memcpy(&halves[d], Key(*pages, 1, 0, 0, 0, d, 2), 2);
  EXPECT_EQ(HalfToFloat(halves[0]), 2048.0f);
  EXPECT_EQ(HalfToFloat(halves[1]), 2052.0f);
  EXPECT_EQ(HalfToFloat(halves[2]), 2050.0f);
  EXPECT_EQ(HalfToFloat(halves[3]), -2048.0f);
}

TEST(KvPagesTest, BF16RoundsToNearestEven) {
  KvShape shape = kShape;
  shape.type = KvType::kBF16;
  const auto pages = MakePages(shape);
  // Between 256 and 512 neighbours are 2 apart.
  const float keys[8] = {257.0f, 259.0f, 257.5f, -257.0f, 0, 0, 0, 0};
  pages->Write(1, 0, 3, keys, keys);
  const float want[4] = {256.0f, 260.0f, 258.0f, -256.0f};
  for (int d = 0; d < 4; ++d) {
    for (const auto at : {Key, Value}) {
      uint16_t stored;
      std::memcpy(&stored, at(*pages, 1, 0, 0, 3, d, 2), 2);
      EXPECT_EQ(std::bit_cast<float>(uint32_t{stored} << 16), want[d]);
    }
  }
}

TEST(KvPagesTest, Q8_0KeepsScalesAndBytesOfSixteenTokensTogether) {
  KvShape shape = kShape;
  shape.type = KvType::kQ8_0;
  shape.page_tokens = 32;
  shape.key_dim = 64;
  shape.value_dim = 32;
  const auto pages = MakePages(shape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 32 * (64 + 32) / 32 * 34);
  constexpr int kSlot = 21;
  std::vector<float> keys(128), values(64);
  for (int d = 0; d < 128; ++d) keys[d] = static_cast<float>(d % 32 - 16) * (d < 32 ? 1.0f : 0.5f);
  for (int d = 0; d < 64; ++d) values[d] = static_cast<float>(d % 32 * 4);
  pages->Write(2, 1, kSlot, keys.data(), values.data());
  const auto scale = [](const std::byte* block) {
    uint16_t half;
    std::memcpy(&half, block + kSlot % 16 * 2, 2);
    return HalfToFloat(half);
  };
  for (int head = 0; head < 2; ++head) {
    for (int d = 0; d < 64; ++d) {
      const std::byte* block = pages->keys(1, head) + 2 * pages->page_bytes() + (kSlot / 16 * 2 + d / 32) * 544;
      const float step = head == 0 && d < 32 ? 1.0f : 0.5f;
      EXPECT_EQ(scale(block), HalfToFloat(FloatToHalf(16 * step / 127)));
      const int q = static_cast<int8_t>(block[32 + d % 32 / 4 * 64 + kSlot % 16 * 4 + d % 4]);
      EXPECT_EQ(q, std::nearbyint(127.0 / 16 * (d % 32 - 16))) << d;
    }
    for (int d = 0; d < 32; ++d) {
      const std::byte* block = pages->values(1, head) + 2 * pages->page_bytes() + kSlot / 16 * 544;
      EXPECT_EQ(scale(block), HalfToFloat(FloatToHalf(124.0f / 127)));
      EXPECT_EQ(static_cast<int8_t>(block[32 + kSlot % 16 * 32 + d]), std::nearbyint(127.0 / 124 * 4 * d)) << d;
    }
  }
}

// Nibble `at % 2` of byte `at / 2`, as a signed number.
int Nibble(const std::byte* bytes, int at) {
  const int nibble = std::to_integer<int>(bytes[at / 2]) >> (at % 2 * 4) & 15;
  return nibble < 8 ? nibble : nibble - 16;
}

TEST(KvPagesTest, Q4_0KeepsScalesAndNibblesOfSixteenTokensTogether) {
  KvShape shape = kShape;
  shape.type = KvType::kQ4_0;
  shape.page_tokens = 32;
  shape.key_dim = 64;
  shape.value_dim = 32;
  const auto pages = MakePages(shape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 32 * (64 + 32) / 32 * 18);
  constexpr int kSlot = 21, kBlockBytes = 16 * 18;
  // Blocks that differ by their scales, of integers in an order of their own.
  const auto integer = [](int d) { return (d * 5 + 3) % 16 - 8; };
  const auto scale = [](int block) {
    return static_cast<float>(block % 2 == 0 ? 0.5 : -2) * static_cast<float>(1 + block);
  };
  std::vector<float> keys(128), values(64);
  for (int d = 0; d < 128; ++d) keys[d] = scale(d / 32) * static_cast<float>(integer(d));
  for (int d = 0; d < 64; ++d) values[d] = scale(4 + d / 32) * static_cast<float>(integer(d));
  pages->Write(2, 1, kSlot, keys.data(), values.data());
  const auto expect_scale = [&](const std::byte* block, int number) {
    uint16_t half;
    std::memcpy(&half, block + kSlot % 16 * 2, 2);
    EXPECT_EQ(HalfToFloat(half), scale(number));
  };
  for (int head = 0; head < 2; ++head) {
    for (int d = 0; d < 64; ++d) {
      const std::byte* block = pages->keys(1, head) + 2 * pages->page_bytes() + (kSlot / 16 * 2 + d / 32) * kBlockBytes;
      expect_scale(block, head * 2 + d / 32);
      const int byte = d % 32 / 8 * 64 + kSlot % 16 * 4 + d % 4;
      EXPECT_EQ(Nibble(block + 32, 2 * byte + d % 8 / 4), integer(head * 64 + d)) << d;
    }
    for (int d = 0; d < 32; ++d) {
      const std::byte* block = pages->values(1, head) + 2 * pages->page_bytes() + kSlot / 16 * kBlockBytes;
      expect_scale(block, 4 + head);
      EXPECT_EQ(Nibble(block + 32, 2 * (kSlot % 16 * 16 + d % 16) + d / 16), integer(head * 32 + d)) << d;
    }
  }
}

TEST(KvPagesTest, Int4RoundsToTheNearestAndTakesAnyNumber) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float x[kKvBlock] = {-4.0f, 3.9f, 1.24f, 1.26f, 0.75f, 1.25f, 0.0f, -0.24f};
  int8_t q[kKvBlock];
  EXPECT_EQ(HalfToFloat(QuantizeToInt4(x, q)), 0.5f);
  const int want[] = {-8, 7, 2, 3, 2, 2, 0, 0, 0};  // 7.8 is beyond 7; ties go to the even neighbour
  for (int i = 0; i < 9; ++i) EXPECT_EQ(q[i], want[i]) << i;

  const float zeros[kKvBlock] = {};
  EXPECT_EQ(HalfToFloat(QuantizeToInt4(zeros, q)), 0.0f);
  for (const int8_t integer : q) EXPECT_EQ(integer, 0);

  for (const float odd : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 3e38f, 1e-40f, -1e-9f}) {
    std::fill_n(x, kKvBlock, 1.0f);
    x[5] = odd;
    EXPECT_TRUE(std::isfinite(HalfToFloat(QuantizeToInt4(x, q)))) << odd;
    for (const int8_t integer : q) EXPECT_TRUE(integer >= -8 && integer <= 7) << odd;
  }
}

TEST(KvPagesTest, BlocksRefuseRowsThatAreNotWholeOnes) {
  for (const auto& [type, key_dim, value_dim] :
       {std::tuple(KvType::kQ8_0, 48, 64), std::tuple(KvType::kQ8_0, 64, 80), std::tuple(KvType::kQ4_0, 64, 16)}) {
    KvShape shape = kShape;
    shape.type = type;
    shape.key_dim = key_dim;
    shape.value_dim = value_dim;
    const absl::Status status = KvPages::Create(shape, KernelsFor(Isa::kScalar)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(absl::StrFormat("%s takes keys and values in blocks of 32 elements, and the "
                                                    "model's have %d and %d",
                                                    FindKvFormat(type).name, key_dim, value_dim)),
              absl::string_view::npos)
        << status;
  }
}

TEST(KvFormatTest, NamesAreParsedAndOthersRefused) {
  for (const KvFormat& format : AllKvFormats()) {
    EXPECT_EQ(*ParseKvType(format.name), format.type);
    EXPECT_EQ(&FindKvFormat(format.type), &format);
  }
  EXPECT_EQ(ParseKvType("q5_0").status().message(), "KV type \"q5_0\", expected one of f32, f16, bf16, q8_0, q4_0");
  EXPECT_EQ(KvBytes(KvType::kQ8_0, 64), 68u);
  EXPECT_EQ(KvBytes(KvType::kQ4_0, 64), 36u);
  EXPECT_EQ(KvBytes(KvType::kBF16, 64), 128u);
}

TEST(KvPagesTest, BytesAreThoseOfTheWholePool) {
  const auto pages = MakePages(kShape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 2 * 16 * 4 * 4);
  EXPECT_EQ(*KvPages::PoolBytes(kShape), pages->bytes());
  KvShape half = kShape;
  half.type = KvType::kF16;
  EXPECT_EQ(*KvPages::PoolBytes(half), pages->bytes() / 2);
}

TEST(KvPagesTest, CopiedPageHoldsTheSameInAllLayersAndOthersStay) {
  const auto pages = MakePages(kShape);
  for (int page = 0; page < 3; ++page) {
    const std::vector<float> row(8, static_cast<float>(page + 1));
    for (int layer = 0; layer < 2; ++layer) pages->Write(page, layer, 15, row.data(), row.data());
  }
  pages->Copy(2, 0);
  pages->Copy(1, 1);
  const auto value = [&](int page, int layer) {
    float read;
    std::memcpy(&read, Value(*pages, page, layer, /*head=*/1, /*slot=*/15, /*d=*/3, 4), sizeof(read));
    return read;
  };
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(value(0, layer), 3.0f);
    EXPECT_EQ(value(1, layer), 2.0f);
    EXPECT_EQ(value(2, layer), 3.0f);
  }
}

TEST(KvPagesTest, KeysAndValuesMayDifferInLength) {
  KvShape shape = kShape;
  shape.key_dim = 8;
  const auto pages = MakePages(shape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 16 * (8 + 4) * 4);
  std::vector<float> keys(16), values(8);
  for (int i = 0; i < 16; ++i) keys[i] = static_cast<float>(i);
  for (int i = 0; i < 8; ++i) values[i] = static_cast<float>(100 + i);
  pages->Write(2, 1, 5, keys.data(), values.data());
  for (int head = 0; head < 2; ++head) {
    for (int d = 0; d < 8; ++d) {
      EXPECT_EQ(std::memcmp(Key(*pages, 2, 1, head, 5, d, 4), &keys[head * 8 + d], 4), 0);
    }
    EXPECT_EQ(std::memcmp(Value(*pages, 2, 1, head, 5, 0, 4), values.data() + head * 4, 4 * 4), 0);
  }
}

TEST(KvPagesTest, ValuesMayBeTheBeginningOfTheKeys) {
  KvShape shape = kShape;
  shape.key_dim = 8;
  shape.value_dim = 0;
  const auto pages = MakePages(shape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 16 * 8 * 4);
  EXPECT_EQ(pages->values(1, 1), nullptr);
}

TEST(KvPagesTest, ImpossibleShapesReturnInvalidArgument) {
  const auto code = [](auto change) {
    KvShape shape = kShape;
    change(shape);
    return KvPages::Create(shape, KernelsFor(Isa::kScalar)).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code([](KvShape& s) { s.num_pages = 0; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.layers = -1; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.kv_heads = 0; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.page_tokens = 24; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.key_dim = 6; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.key_dim = 0; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.value_dim = 6; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.value_dim = -4; }), kInvalid);
  EXPECT_EQ(code([](KvShape& s) { s.num_pages = s.layers = s.kv_heads = 1 << 30; }), kInvalid);
}

TEST(KvPagesTest, MoreMemoryThanThereIsReturnsResourceExhausted) {
  KvShape shape = kShape;
  shape.num_pages = 1 << 30;
  shape.key_dim = shape.value_dim = 1 << 20;  // 2^60 bytes, more than an address space
  const absl::Status status = KvPages::Create(shape, KernelsFor(Isa::kScalar)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace tandem::engine
