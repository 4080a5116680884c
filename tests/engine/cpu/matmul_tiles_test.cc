// The kernels of AMX against scalar, bit by bit, their tile instructions emulated. On a machine that has them
// matmul_test.cc does it without.
#include <gtest/gtest.h>

#include "tests/engine/cpu/kernel_test_support.h"
#include "tests/engine/cpu/tile_emulator.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

constexpr float kUntouched = 12345.0f;

struct TilesCase {
  int64_t rows, blocks;  // of the weights
  int tokens;
  int64_t group_begin = 0, group_end = -1;  // -1: all
};

class MatMulTilesTest : public ::testing::TestWithParam<TensorType> {
 protected:
  void SetUp() override {
    if (!IsSupported(Isa::kAvx512)) GTEST_SKIP() << "this machine has no AVX-512";
    if (IsSupported(Isa::kAmx)) GTEST_SKIP() << "this machine needs no emulation";
  }

  void Compare(const TilesCase& c, bool extreme) {
    const TensorType type = GetParam();
    const int64_t cols = c.blocks * FindBlockFormat(type)->block_elements;
    Rng rng(c.rows * 1000003 + c.blocks * 101 + c.tokens * 7 + (extreme ? 1 : 0));
    const std::vector<std::byte> bytes = RandomWeights(rng, type, c.rows, cols, extreme);
    const TestActivations x = RandomActivations(rng, ActivationKindFor(type), c.tokens, cols, extreme);
    absl::StatusOr<PackedMatrix> packed = PackedMatrix::Pack(type, c.rows, cols, bytes, pool_);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const int64_t stride = c.rows + 3;
    const auto run = [&](KernelTable::MatMul matmul) {
      std::vector<float> out(c.tokens * stride, kUntouched);
      const int64_t end = c.group_end < 0 ? packed->groups() : c.group_end;
      matmul({packed->view(), x.view(), c.tokens, out.data(), stride, c.group_begin, end});
      return out;
    };
    const std::vector<float> want = run(KernelsFor(Isa::kScalar).MatMulFor(type));
    EXPECT_EQ(FirstDifference(want, run(KernelsFor(Isa::kAmx).MatMulFor(type))), "")
        << c.rows << " rows, " << c.blocks << " blocks, " << c.tokens << " tokens, "
        << (extreme ? "extreme" : "random");
    EXPECT_GT(emulator_.executed(), 0);
    EXPECT_EQ(emulator_.TakeFaults(), 0);
  }

  ThreadPool pool_{1, false};
  TileEmulator emulator_;
};

TEST_P(MatMulTilesTest, EqualsScalar) {
  for (const bool extreme : {false, true}) {
    for (const int tokens : {16, 17, 31, 32, 33, 48, 49}) Compare({37, 3, tokens}, extreme);
    for (const int64_t rows : {1, 15, 16, 17, 64, 100}) Compare({rows, 2, 18}, extreme);
    for (const int64_t blocks : {1, 2, 5, 7, 8, 9, 13}) Compare({32, blocks, 20}, extreme);
    // More tokens than share expanded weights, and a remainder that does not fill a tile.
    for (const int tokens : {256, 257}) Compare({17, 1, tokens}, extreme);
    Compare({17, 2, 290}, extreme);
  }
}

TEST_P(MatMulTilesTest, GroupRangeWritesOnlyItsRows) {
  for (const auto& [begin, end] : {std::pair{1, 3}, {0, 1}, {2, 5}, {4, 5}}) Compare({75, 2, 19, begin, end}, false);
}

std::vector<TensorType> QuantisedTypes() {
  std::vector<TensorType> types = KernelTypes();
  std::erase_if(types, [](TensorType type) { return ActivationKindFor(type) == ActivationKind::kF32; });
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, MatMulTilesTest, ::testing::ValuesIn(QuantisedTypes()),
                         [](const auto& info) { return std::string(FindBlockFormat(info.param)->name); });

}  // namespace
}  // namespace tandem::engine
