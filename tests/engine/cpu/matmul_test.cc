// Every matmul against plain double arithmetic, and every kernel set against scalar, bit by bit.
#include <gtest/gtest.h>

#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

// Bytes around the output that must stay as they are.
constexpr float kUntouched = 12345.0f;

struct MatMulCase {
  TensorType type;
  int64_t rows, cols;  // of the weights
  int tokens;
  bool extreme;
};

std::string Describe(const MatMulCase& c) {
  return std::string(FindBlockFormat(c.type)->name) + " " + std::to_string(c.rows) + "x" + std::to_string(c.cols) +
         " tokens " + std::to_string(c.tokens) + (c.extreme ? " extreme" : " random");
}

class MatMulTest : public ::testing::TestWithParam<TensorType> {
 protected:
  // Fills the inputs of a case.
  void Prepare(const MatMulCase& c) {
    Rng rng(c.rows * 1000003 + c.cols * 101 + c.tokens * 7 + (c.extreme ? 1 : 0));
    bytes_ = RandomWeights(rng, c.type, c.rows, c.cols, c.extreme);
    x_ = RandomActivations(rng, ActivationKindFor(c.type), c.tokens, c.cols, c.extreme);
    absl::StatusOr<PackedMatrix> packed = PackedMatrix::Pack(c.type, c.rows, c.cols, bytes_, pool_);
    ASSERT_TRUE(packed.ok()) << packed.status();
    packed_ = *std::move(packed);
  }

  // Output [tokens, rows + 3] with the last 3 columns untouched.
  std::vector<float> Run(const MatMulCase& c, Isa isa) {
    const int64_t stride = c.rows + 3;
    std::vector<float> out(c.tokens * stride, kUntouched);
    KernelsFor(isa).MatMulFor(c.type)({packed_.view(), x_.view(), c.tokens, out.data(), stride, 0, packed_.groups()});
    for (int t = 0; t < c.tokens; ++t) {
      for (int64_t i = c.rows; i < stride; ++i) EXPECT_EQ(out[t * stride + i], kUntouched) << Describe(c);
    }
    return out;
  }

  ThreadPool pool_{1, false};
  std::vector<std::byte> bytes_;
  TestActivations x_{};
  PackedMatrix packed_;
};

// A chain of n roundings of 2^-24 each on terms whose magnitudes sum to S is off by at most about n * 2^-24 * S.
TEST_P(MatMulTest, ScalarMatchesDoubleArithmetic) {
  const TensorType type = GetParam();
  const int64_t block = FindBlockFormat(type)->block_elements;
  for (const int64_t cols : {block, 3 * block, block == 1 ? int64_t{203} : 5 * block}) {
    const MatMulCase c{type, 21, cols, 3, false};
    Prepare(c);
    const std::vector<float> out = Run(c, Isa::kScalar);
    const std::vector<float> w = Dequantized(type, bytes_, c.rows * c.cols);
    const std::vector<float> without_min = DequantizedWithoutMin(type, bytes_, c.rows * c.cols);
    // Per block: d * scale, the conversion and the FMA, twice for formats with mins.
    const double roundings = 6.0 * static_cast<double>(cols / block) + 2.0;
    for (int t = 0; t < c.tokens; ++t) {
      for (int64_t o = 0; o < c.rows; ++o) {
        double want = 0;
        double magnitude = 0;
        for (int64_t k = 0; k < cols; ++k) {
          const double x = x_.Value(t, k);
          const double scaled = without_min[o * cols + k];
          want += w[o * cols + k] * x;
          magnitude += std::fabs(scaled * x) + std::fabs((w[o * cols + k] - scaled) * x);
        }
        ASSERT_NEAR(out[t * (c.rows + 3) + o], want, roundings * 0x1p-24 * magnitude + 1e-38)
            << Describe(c) << " token " << t << " row " << o;
      }
    }
    EXPECT_GT(DistinctValues(out), static_cast<size_t>(c.tokens * c.rows * 9 / 10));
  }
}

TEST_P(MatMulTest, EveryIsaEqualsScalar) {
  const std::vector<Isa> isas = VectorIsas();
  if (isas.empty()) GTEST_SKIP() << "this machine has no kernels but the scalar ones";
  const TensorType type = GetParam();
  const int64_t block = FindBlockFormat(type)->block_elements;
  std::vector<MatMulCase> cases;
  for (const bool extreme : {false, true}) {
    for (int tokens = 1; tokens <= 9; ++tokens) cases.push_back({type, 37, 3 * block, tokens, extreme});
    for (const int tokens : {12, 13, 15, 17, 23, 39, 40, 96, 97, 200})
      cases.push_back({type, 53, 2 * block, tokens, extreme});
    for (const int64_t rows : {1, 15, 16, 17, 64, 100}) cases.push_back({type, rows, 2 * block, 2, extreme});
    for (const int64_t blocks : {1, 2, 5, 8, 13}) cases.push_back({type, 48, blocks * block, 5, extreme});
    cases.push_back({type, 33, block == 1 ? 517 : 9 * block, 18, extreme});
  }
  for (const MatMulCase& c : cases) {
    Prepare(c);
    const std::vector<float> want = Run(c, Isa::kScalar);
    for (const Isa isa : isas) EXPECT_EQ(FirstDifference(want, Run(c, isa)), "") << Describe(c) << IsaName(isa);
  }
}

// Threads split groups: a range of groups writes its own rows, with the same bits, and nothing else.
TEST_P(MatMulTest, GroupRangeWritesOnlyItsRows) {
  const TensorType type = GetParam();
  const int64_t cols = 2 * FindBlockFormat(type)->block_elements;
  const MatMulCase c{type, 75, cols, 3, false};
  Prepare(c);
  const std::vector<float> whole = Run(c, Isa::kScalar);
  for (const Isa isa : SupportedIsas()) {
    std::vector<float> out(whole.size(), kUntouched);
    KernelsFor(isa).MatMulFor(type)({packed_.view(), x_.view(), 3, out.data(), c.rows + 3, 1, 3});
    for (int t = 0; t < c.tokens; ++t) {
      for (int64_t i = 0; i < c.rows + 3; ++i) {
        const size_t at = t * (c.rows + 3) + i;
        ASSERT_EQ(out[at], i >= 16 && i < 48 ? whole[at] : kUntouched) << IsaName(isa) << " row " << i;
      }
    }
  }
}

// A token's result does not depend on the tokens beside it.
TEST_P(MatMulTest, ResultIsIndependentOfBatchMates) {
  const TensorType type = GetParam();
  const int64_t cols = 3 * FindBlockFormat(type)->block_elements;
  for (const Isa isa : SupportedIsas()) {
    const MatMulCase c{type, 32, cols, 9, false};
    Prepare(c);
    const std::vector<float> together = Run(c, isa);
    for (int t = 0; t < c.tokens; ++t) {
      Activations one = x_.view();
      const int64_t blocks = cols / x_.block();
      one = {one.f32 + (x_.f32.empty() ? 0 : t * cols), one.q + (x_.q.empty() ? 0 : t * cols),
             one.scale + (x_.scale.empty() ? 0 : t * blocks), one.sum16 + (x_.sum16.empty() ? 0 : t * (cols / 16))};
      std::vector<float> out(c.rows);
      KernelsFor(isa).MatMulFor(type)({packed_.view(), one, 1, out.data(), c.rows, 0, 2});
      const std::vector<float> row(together.begin() + t * (c.rows + 3), together.begin() + t * (c.rows + 3) + c.rows);
      EXPECT_EQ(FirstDifference(row, out), "") << IsaName(isa) << " token " << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MatMulTest, ::testing::ValuesIn(KernelTypes()),
                         [](const auto& info) { return std::string(FindBlockFormat(info.param)->name); });

TEST(KernelTableTest, TypesWithoutKernelsAreKnown) {
  EXPECT_FALSE(HasKernels(TensorType::kQ8_1));
  EXPECT_EQ(KernelsFor(Isa::kScalar).MatMulFor(TensorType::kI32), nullptr);
  EXPECT_EQ(KernelsFor(Isa::kScalar).MatMulFor(static_cast<TensorType>(1000)), nullptr);
  EXPECT_EQ(KernelTypes().size(), 25u);
  for (const BlockFormat& format : AllBlockFormats()) EXPECT_EQ(HasKernels(format.type), format.computable());
  EXPECT_EQ(ActivationKindFor(TensorType::kF16), ActivationKind::kF32);
  EXPECT_EQ(ActivationKindFor(TensorType::kQ8_0), ActivationKind::kInt8Block32);
  EXPECT_EQ(ActivationKindFor(TensorType::kMXFP4), ActivationKind::kInt8Block32);
  EXPECT_EQ(ActivationKindFor(TensorType::kQ6_K), ActivationKind::kInt8Block256);
  EXPECT_EQ(ActivationKindFor(TensorType::kIQ4_XS), ActivationKind::kInt8Block256);
}

// A set that was asked for is the set that runs.
TEST(KernelTableTest, TableIsOfTheIsaAskedFor) {
  EXPECT_EQ(KernelsFor(Isa::kScalar).isa, Isa::kScalar);
  for (const Isa isa : VectorIsas()) {
    EXPECT_EQ(KernelsFor(isa).isa, isa);
    for (const TensorType type : KernelTypes()) {
      EXPECT_NE(KernelsFor(isa).MatMulFor(type), KernelsFor(Isa::kScalar).MatMulFor(type));
    }
  }
}

}  // namespace
}  // namespace tandem::engine
