#include "engine/cache/kv_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

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

TEST(KvPagesTest, BytesAreThoseOfTheWholePool) {
  const auto pages = MakePages(kShape);
  EXPECT_EQ(pages->bytes(), 3u * 2 * 2 * 2 * 16 * 4 * 4);
  EXPECT_EQ(*KvPages::PoolBytes(kShape), pages->bytes());
  KvShape half = kShape;
  half.type = KvType::kF16;
  EXPECT_EQ(*KvPages::PoolBytes(half), pages->bytes() / 2);
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
