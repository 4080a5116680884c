#include "engine/cpu/packed_matrix.h"

#include <atomic>

#include <gtest/gtest.h>

#include "engine/cpu/pack_blocks.h"
#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using testing::KernelTypes;
using testing::RandomWeights;
using testing::Rng;

TEST(PackedMatrixTest, SizesFollowTheLayout) {
  EXPECT_EQ(PackedGroupBytes(TensorType::kF32, 10), 16u * 40);
  EXPECT_EQ(PackedGroupBytes(TensorType::kF16, 10), 16u * 20);
  EXPECT_EQ(PackedGroupBytes(TensorType::kQ8_0, 64), 16u * 68);
  EXPECT_EQ(PackedGroupBytes(TensorType::kQ4_K, 512), 16u * 288);
  EXPECT_EQ(PackedGroupBytes(TensorType::kMXFP4, 64), 16u * 34);
  EXPECT_EQ(PackedGroupBytes(TensorType::kQ6_K, 512), 16u * 420);
  EXPECT_EQ(PackedGroupBytes(TensorType::kQ6_K, 128), 0u);
  EXPECT_EQ(PackedGroupBytes(TensorType::kI32, 16), 0u);
  EXPECT_EQ(*PackedMatrixBytes(TensorType::kQ8_0, 17, 32), 2u * 16 * 34);
}

TEST(PackedMatrixTest, RefusedShapesReturnInvalidArgument) {
  const auto code = [](TensorType type, uint64_t rows, uint64_t cols) {
    return PackedMatrixBytes(type, rows, cols).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(TensorType::kQ8_1, 16, 32), kInvalid);
  EXPECT_EQ(code(static_cast<TensorType>(999), 16, 32), kInvalid);
  EXPECT_EQ(code(TensorType::kQ4_K, 16, 32), kInvalid);
  EXPECT_EQ(code(TensorType::kF32, 0, 32), kInvalid);
  EXPECT_EQ(code(TensorType::kF32, 16, 0), kInvalid);
  EXPECT_EQ(code(TensorType::kF32, uint64_t{1} << 40, uint64_t{1} << 40), kInvalid);
  EXPECT_EQ(code(TensorType::kF32, ~uint64_t{0}, 1), kInvalid);
  EXPECT_EQ(code(TensorType::kQ8_0, 16, ~uint64_t{0} - 31), kInvalid);
}

TEST(PackedMatrixTest, WrongSourceSizeReturnsInvalidArgument) {
  ThreadPool pool(1, false);
  for (const size_t size : {size_t{0}, size_t{67}, size_t{69}}) {
    const std::vector<std::byte> src(size);
    EXPECT_EQ(PackedMatrix::Pack(TensorType::kQ8_0, 2, 32, src, pool).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(PackedMatrixTest, PlacesRowsSideBySide) {
  ThreadPool pool(1, false);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};  // 3 rows of 2
  const PackedMatrix m = *PackedMatrix::Pack(TensorType::kF32, 3, 2, std::as_bytes(std::span(values)), pool);
  ASSERT_EQ(m.groups(), 1);
  std::vector<float> packed(32);
  ASSERT_EQ(m.bytes(), packed.size() * sizeof(float));
  std::memcpy(packed.data(), m.group(0), m.bytes());
  std::vector<float> want(32, 0.0f);
  want[0] = 1, want[1] = 3, want[2] = 5;
  want[16] = 2, want[17] = 4, want[18] = 6;
  EXPECT_EQ(packed, want);
}

TEST(PackedMatrixTest, EveryRowIsFoundBackInItsLane) {
  ThreadPool pool(1, false);
  Rng rng(6);
  for (const TensorType type : KernelTypes()) {
    const BlockFormat& format = *FindBlockFormat(type);
    const std::vector<std::byte> src = RandomWeights(rng, type, 19, 2 * format.block_elements, false);
    const PackedMatrix m = *PackedMatrix::Pack(type, 19, 2 * format.block_elements, src, pool);
    for (size_t i = 0; i < 32; ++i) {
      for (size_t b = 0; b < 2; ++b) {
        std::vector<std::byte> block(format.block_bytes);
        const std::byte* packed = m.group(static_cast<int64_t>(i / 16)) + b * 16 * format.block_bytes;
        UnpackBlock(*FindBlockLayout(type), packed, static_cast<int>(i % 16), block.data());
        const std::byte* own = src.data() + (2 * i + b) * format.block_bytes;
        const std::vector<std::byte> want =
            i < 19 ? std::vector<std::byte>(own, own + format.block_bytes) : std::vector<std::byte>(format.block_bytes);
        ASSERT_EQ(block, want) << std::string(format.name) << " row " << i;
      }
    }
  }
}

TEST(PackedMatrixTest, ARowReadsAsItsBytesDo) {
  ThreadPool pool(1, false);
  Rng rng(7);
  for (const TensorType type : KernelTypes()) {
    const BlockFormat& format = *FindBlockFormat(type);
    // Odd counts of words and blocks.
    const int64_t cols = format.block_elements == 1 ? 333 : int64_t{11} * format.block_elements;
    const size_t row_bytes = cols / format.block_elements * format.block_bytes;
    const std::vector<std::byte> src = RandomWeights(rng, type, 35, cols, false);
    const PackedMatrix m = *PackedMatrix::Pack(type, 35, cols, src, pool);
    std::vector<float> want(cols), got(cols);
    for (int64_t row = 0; row < 35; ++row) {
      format.dequantize(src.data() + row * row_bytes, want.data(), cols);
      m.ReadRow(row, got.data());
      ASSERT_EQ(std::memcmp(got.data(), want.data(), cols * sizeof(float)), 0)
          << std::string(format.name) << " " << row;
    }
  }
}

// 180 rows of F32, of which a thread reads four groups at once.
struct ReaderTest : ::testing::Test {
  static constexpr uint64_t kRows = 180, kCols = 1000;

  PackedMatrix FromMemory() {
    return *PackedMatrix::Pack(TensorType::kF32, kRows, kCols, std::as_bytes(std::span(values)), one);
  }
  absl::Status Read(uint64_t offset, std::span<std::byte> out) const {
    std::memcpy(out.data(), reinterpret_cast<const std::byte*>(values.data()) + offset, out.size());
    return absl::OkStatus();
  }

  ReaderTest() {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  }
  ThreadPool one{1, false}, three{3, false};
  WeightMemory memory{uint64_t{1} << 20};  // for the first one, the others take more
  std::vector<float> values = std::vector<float>(kRows * kCols);
};

TEST_F(ReaderTest, PiecesInOrderOrAtOnceMakeTheSameMatrix) {
  const PackedMatrix want = FromMemory();
  for (ThreadPool* pool : {&one, &three}) {
    uint64_t next = 0;
    const auto in_order = [&](uint64_t offset, std::span<std::byte> out) {
      EXPECT_EQ(offset, next);
      EXPECT_LE(out.size(), 256u << 10);
      next += out.size();
      return Read(offset, out);
    };
    const auto ordered = PackedMatrix::Pack(TensorType::kF32, kRows, kCols, {in_order, false}, *pool, memory);
    ASSERT_TRUE(ordered.ok()) << ordered.status();
    EXPECT_EQ(next, kRows * kCols * sizeof(float));
    std::atomic<uint64_t> bytes = 0;
    const auto counted = [&](uint64_t offset, std::span<std::byte> out) {
      bytes += out.size();
      return Read(offset, out);
    };
    const auto at_once = PackedMatrix::Pack(TensorType::kF32, kRows, kCols, {counted, true}, *pool, memory);
    ASSERT_TRUE(at_once.ok()) << at_once.status();
    EXPECT_EQ(bytes, next);
    for (const PackedMatrix* matrix : {&*ordered, &*at_once}) {
      ASSERT_EQ(matrix->bytes(), want.bytes());
      EXPECT_EQ(std::memcmp(matrix->group(0), want.group(0), want.bytes()), 0);
    }
  }
}

TEST_F(ReaderTest, TheReadersErrorIsReturnedAndNothingReadAfterIt) {
  for (ThreadPool* pool : {&one, &three}) {
    for (const bool concurrent : {false, true}) {
      for (const uint64_t bad : {uint64_t{0}, kRows * kCols * 2, kRows * kCols * 4 - 1}) {
        bool failed = false;
        const auto read = [&](uint64_t offset, std::span<std::byte> out) {
          EXPECT_TRUE(concurrent || !failed) << offset;
          if (offset + out.size() <= bad || offset > bad) return Read(offset, out);
          failed = true;
          return absl::DataLossError("it ends here");
        };
        const auto matrix = PackedMatrix::Pack(TensorType::kF32, kRows, kCols, {read, concurrent}, *pool, memory);
        EXPECT_EQ(matrix.status(), absl::DataLossError("it ends here"));
      }
    }
  }
}

TEST(WeightMemoryTest, PiecesLieSideBySideAndOutliveIt) {
  std::shared_ptr<std::byte[]> first, second, third, fourth;
  {
    WeightMemory memory(1000);
    first = memory.Allocate(100);
    second = memory.Allocate(64);
    third = memory.Allocate(1000);  // does not fit any more
    fourth = memory.Allocate(808);
    EXPECT_EQ(second.get(), first.get() + 128);
    EXPECT_EQ(fourth.get(), first.get() + 192);
    EXPECT_NE(memory.Allocate(1), nullptr) << "beyond its end";
  }
  for (const auto& [piece, bytes] : {std::pair(first, 100), {second, 64}, {third, 1000}, {fourth, 808}}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece.get()) % 64, 0u);
    std::memset(piece.get(), 1, bytes);
  }
}

TEST(PackedMatrixTest, CopiesShareTheirMemory) {
  ThreadPool pool(1, false);
  const std::vector<float> values = {1, 2};
  PackedMatrix copy;
  {
    const PackedMatrix m = *PackedMatrix::Pack(TensorType::kF32, 2, 1, std::as_bytes(std::span(values)), pool);
    copy = m;
    EXPECT_EQ(copy.group(0), m.group(0));
  }
  float read = 0;
  copy.ReadRow(1, &read);
  EXPECT_EQ(read, 2.0f);
}

TEST(PackedMatrixTest, ThreadsDoNotChangeTheResultAndMemoryIsAligned) {
  ThreadPool one(1, false);
  ThreadPool three(3, false);
  Rng rng(5);
  for (const TensorType type : KernelTypes()) {
    const std::vector<std::byte> src = RandomWeights(rng, type, 100, 512, false);
    const PackedMatrix a = *PackedMatrix::Pack(type, 100, 512, src, one);
    const PackedMatrix b = *PackedMatrix::Pack(type, 100, 512, src, three);
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.group(0), b.group(0), a.bytes()), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.group(0)) % 64, 0u);
    EXPECT_EQ(a.group_bytes() % 64, 0u);
    EXPECT_FALSE(a.empty());
  }
  EXPECT_TRUE(PackedMatrix().empty());
}

}  // namespace
}  // namespace tandem::engine
