// Quantisers and element-wise kernels: scalar against double arithmetic, every kernel set against scalar bit by bit.
#include <gtest/gtest.h>

#include <limits>

#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const KernelTable& Scalar() { return KernelsFor(Isa::kScalar); }

// All lengths about the vector widths, and a few long ones.
std::vector<int64_t> Lengths() {
  std::vector<int64_t> lengths;
  for (int64_t n = 1; n <= 70; ++n) lengths.push_back(n);
  lengths.insert(lengths.end(), {127, 172, 255, 256, 1000, 4096});
  return lengths;
}

struct Quantized {
  std::vector<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> sum16;
  bool operator==(const Quantized& other) const {
    return q == other.q && FirstDifference(scale, other.scale).empty() && sum16 == other.sum16;
  }
};

Quantized Quantize(const KernelTable& kernels, int block, const std::vector<float>& x) {
  const int64_t n = static_cast<int64_t>(x.size());
  Quantized out{std::vector<int8_t>(n, 99), std::vector<float>(n / block, -1), std::vector<int32_t>(n / 16, -1)};
  (block == 32 ? kernels.quantize_block32 : kernels.quantize_block256)(x.data(), n, out.q.data(), out.scale.data(),
                                                                       out.sum16.data());
  return out;
}

// Whether the norm is finite, and what becomes of it.
std::pair<bool, Quantized> NormQuantize(const KernelTable& kernels, int block, const std::vector<float>& x,
                                        const std::vector<float>& weight) {
  const int64_t n = static_cast<int64_t>(x.size());
  Quantized out{std::vector<int8_t>(n, 99), std::vector<float>(n / block, -1), std::vector<int32_t>(n / 16, -1)};
  const auto kernel = block == 32 ? kernels.rms_norm_quantize32 : kernels.rms_norm_quantize256;
  const bool finite = kernel(x.data(), weight.data(), n, 1e-6f, out.q.data(), out.scale.data(), out.sum16.data());
  return {finite, out};
}

class QuantizeTest : public ::testing::TestWithParam<int> {};

TEST_P(QuantizeTest, ScalarIsTheNearestIntegerAndSumsAreExact) {
  const int block = GetParam();
  Rng rng(block);
  const std::vector<float> x = RandomFloats(rng, 8 * block, -8, 4);
  const Quantized out = Quantize(Scalar(), block, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double scale = out.scale[i / block];
    // Half a step, and a few roundings of x * (127 / max) at up to 127.
    EXPECT_LE(std::fabs(x[i] / scale - out.q[i]), 0.5 + 127 * 4 * 0x1p-24) << i;
  }
  for (size_t b = 0; b < out.scale.size(); ++b) {
    float max = 0;
    for (int i = 0; i < block; ++i) max = std::max(max, std::fabs(x[b * block + i]));
    EXPECT_EQ(out.scale[b], max / 127.0f);
    EXPECT_EQ(std::abs(*std::max_element(out.q.begin() + b * block, out.q.begin() + (b + 1) * block,
                                         [](int8_t a, int8_t c) { return std::abs(a) < std::abs(c); })),
              127);
  }
  for (size_t s = 0; s < out.sum16.size(); ++s) {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += out.q[16 * s + i];
    EXPECT_EQ(out.sum16[s], sum);
  }
  EXPECT_GT(DistinctValues(out.q), 60u);
}

TEST_P(QuantizeTest, HalvesRoundToEven) {
  const int block = GetParam();
  std::vector<float> x(block, 0.0f);
  x[0] = 127.0f;  // scale 1
  x[1] = 0.5f, x[2] = 1.5f, x[3] = 2.5f, x[4] = -0.5f, x[5] = -1.5f, x[6] = 126.5f;
  for (const Isa isa : SupportedIsas()) {
    const Quantized out = Quantize(KernelsFor(isa), block, x);
    const std::vector<int8_t> head(out.q.begin(), out.q.begin() + 7);
    EXPECT_EQ(head, (std::vector<int8_t>{127, 0, 2, 2, 0, -2, 126})) << IsaName(isa);
    EXPECT_EQ(out.scale[0], 1.0f);
  }
}

TEST_P(QuantizeTest, TinyAndZeroBlocksBecomeZero) {
  const int block = GetParam();
  std::vector<float> x(3 * block, 0.0f);
  x[block] = 0x1p-120f;
  x[2 * block] = -0x1p-119f;
  for (const Isa isa : SupportedIsas()) {
    const Quantized out = Quantize(KernelsFor(isa), block, x);
    EXPECT_EQ(out.scale[0], 0.0f);
    EXPECT_EQ(out.scale[1], 0.0f);
    EXPECT_EQ(out.q[block], 0);
    EXPECT_GT(out.scale[2], 0.0f);
    EXPECT_EQ(out.q[2 * block], -127);
  }
}

TEST_P(QuantizeTest, EveryIsaEqualsScalar) {
  const int block = GetParam();
  Rng rng(block + 1);
  for (const int blocks : {1, 2, 3, 7, 16}) {
    for (const auto& [low, high] : {std::pair{-8, 4}, {-140, -110}, {-126, 126}, {0, 0}}) {
      std::vector<float> x = RandomFloats(rng, blocks * block, low, high);
      for (int variant = 0; variant < 3; ++variant) {
        if (variant == 1) x[rng() % x.size()] = kInfinity;
        if (variant == 2) x[rng() % x.size()] = kNan;
        const Quantized want = Quantize(Scalar(), block, x);
        for (const Isa isa : VectorIsas()) {
          EXPECT_TRUE(want == Quantize(KernelsFor(isa), block, x))
              << IsaName(isa) << " " << blocks << " 2^" << low << " variant " << variant;
        }
      }
    }
  }
}

TEST_P(QuantizeTest, WithANormBeforeEqualsTheTwoInTurn) {
  const int block = GetParam();
  Rng rng(block + 2);
  for (const int blocks : {1, 2, 3, 5, 7, 16, 17}) {
    const int64_t n = int64_t{blocks} * block;
    for (const auto& [low, high] : {std::pair{-8, 4}, {-140, -110}, {-30, 30}, {0, 0}}) {
      const std::vector<float> x = RandomFloats(rng, n, low, high), weight = RandomFloats(rng, n, -6, 3);
      std::vector<float> normed(n);
      Scalar().rms_norm(x.data(), weight.data(), n, 1e-6f, normed.data());
      const Quantized want = Quantize(Scalar(), block, normed);
      for (const Isa isa : SupportedIsas()) {
        const auto [finite, got] = NormQuantize(KernelsFor(isa), block, x, weight);
        EXPECT_TRUE(finite && want == got) << IsaName(isa) << " " << blocks << " 2^" << low;
      }
    }
  }
}

TEST_P(QuantizeTest, ANormThatIsNotFiniteIsTold) {
  const int block = GetParam();
  Rng rng(block + 3);
  for (int place = 0; place < 3 * block; place += 1 + place / 8) {
    for (const float bad : {kInfinity, -kInfinity, kNan}) {
      for (const bool in_weight : {false, true}) {
        std::vector<float> x = RandomFloats(rng, 3 * block, -8, 4), weight = RandomFloats(rng, 3 * block, -6, 3);
        (in_weight ? weight : x)[place] = bad;
        for (const Isa isa : SupportedIsas()) {
          EXPECT_FALSE(NormQuantize(KernelsFor(isa), block, x, weight).first) << IsaName(isa) << " " << place;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, QuantizeTest, ::testing::Values(32, 256));

TEST(RmsNormTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(3);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -6, 3);
    const std::vector<float> weight = RandomFloats(rng, n, -3, 3);
    std::vector<float> out(n);
    Scalar().rms_norm(x.data(), weight.data(), n, 1e-5f, out.data());
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * v;
    const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + 1e-5);
    // The sum is off by at most n / 16 + 6 roundings, halved by the root; then division, root and two products.
    const double tolerance = (static_cast<double>(n) / 32 + 8) * 0x1p-24;
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_NEAR(out[i], x[i] * inverse * weight[i], tolerance * std::fabs(x[i] * inverse * weight[i])) << n;
    }
  }
}

TEST(RmsNormTest, EveryIsaEqualsScalarAlsoInPlace) {
  Rng rng(4);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -30, 8);
    const std::vector<float> weight = RandomFloats(rng, n, -3, 3);
    std::vector<float> want(n);
    Scalar().rms_norm(x.data(), weight.data(), n, 1e-6f, want.data());
    for (const Isa isa : VectorIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).rms_norm(got.data(), weight.data(), n, 1e-6f, got.data());
      EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " n " << n;
    }
  }
}

TEST(RopePairsTest, ScalarRotates) {
  std::vector<float> x = {1, 0, 0, 2, 3, 4, 7, 8};
  const std::vector<float> cos = {0, 0.5f};
  const std::vector<float> sin = {1, 0.25f};
  Scalar().rope_pairs(x.data(), 2, 4, 4, cos.data(), sin.data());
  EXPECT_EQ(x, (std::vector<float>{0, 1, -0.5f, 1, -4, 3, 1.5f, 5.75f}));
}

TEST(RopePairsTest, EveryIsaEqualsScalarAndLeavesTheRest) {
  Rng rng(5);
  for (const auto& [head_dim, rope_dims] :
       {std::pair{4, 2}, {8, 8}, {12, 10}, {64, 64}, {80, 32}, {96, 96}, {128, 64}}) {
    const std::vector<float> x = RandomFloats(rng, 3 * head_dim, -8, 4);
    const std::vector<float> cos = RandomFloats(rng, rope_dims / 2, -20, 0);
    const std::vector<float> sin = RandomFloats(rng, rope_dims / 2, -20, 0);
    std::vector<float> want = x;
    Scalar().rope_pairs(want.data(), 3, head_dim, rope_dims, cos.data(), sin.data());
    for (int i = 0; i < 3 * head_dim; ++i) {
      if (i % head_dim < rope_dims) continue;
      EXPECT_EQ(want[i], x[i]);
    }
    for (const Isa isa : VectorIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).rope_pairs(got.data(), 3, head_dim, rope_dims, cos.data(), sin.data());
      EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " head_dim " << head_dim;
    }
  }
}

TEST(SiluMulTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(6);
  const std::vector<float> gate = RandomFloats(rng, 2000, -20, 6);
  const std::vector<float> up = RandomFloats(rng, 2000, -6, 6);
  std::vector<float> out(2000);
  Scalar().silu_mul(gate.data(), up.data(), 2000, out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double want = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    // exp to 1.2e-7, then three roundings; the floor is where exp saturates.
    EXPECT_NEAR(out[i], want, 3e-7 * std::fabs(want) + 1e-34) << gate[i];
  }
}

TEST(SiluMulTest, EveryIsaEqualsScalarAlsoInPlaceAndAtTheEdges) {
  Rng rng(7);
  for (const int64_t n : Lengths()) {
    std::vector<float> gate = RandomFloats(rng, n, -30, 8);
    const std::vector<float> up = RandomFloats(rng, n, -6, 6);
    for (const float edge : {0.0f, -0.0f, 87.0f, -88.72283f, -88.73f, 1e30f, -1e30f}) gate[rng() % n] = edge;
    std::vector<float> want(n);
    Scalar().silu_mul(gate.data(), up.data(), n, want.data());
    for (const Isa isa : VectorIsas()) {
      std::vector<float> got = gate;
      KernelsFor(isa).silu_mul(got.data(), up.data(), n, got.data());
      EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " n " << n;
    }
  }
}

// The exp of every kernel set is CanonicalExp, seen through silu: gate = -x, up = 1.
TEST(SiluMulTest, ExpOfEveryIsaIsCanonicalOverItsRange) {
  std::vector<float> gate;
  for (int i = -89000; i <= 89000; ++i) gate.push_back(static_cast<float>(i) * 1e-3f + 1e-5f);
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> want(gate.size());
  Scalar().silu_mul(gate.data(), up.data(), gate.size(), want.data());
  for (const Isa isa : VectorIsas()) {
    std::vector<float> got(gate.size());
    KernelsFor(isa).silu_mul(gate.data(), up.data(), gate.size(), got.data());
    EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa);
  }
}

TEST(AddTest, EveryIsaAdds) {
  Rng rng(8);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -10, 10);
    const std::vector<float> y = RandomFloats(rng, n, -10, 10);
    for (const Isa isa : SupportedIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).add(y.data(), n, got.data());
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(got[i], x[i] + y[i]) << IsaName(isa);
    }
  }
}

TEST(F32ToF16Test, EveryIsaRoundsToNearestEven) {
  Rng rng(9);
  // Ties, sub-normal halves, overflow, infinity.
  std::vector<float> edges = {0.0f,      -0.0f,      1.0f,     1.00048828125f, 1.00146484375f, 65504.0f,    65519.9f,
                              65520.0f,  1e30f,      -1e30f,   0x1p-24f,       0x1p-25f,       0x1.8p-25f,  0x1p-26f,
                              kInfinity, -kInfinity, 0x1p-14f, 0x1.ffcp-15f,   0x1p-149f,      0x1.ffep-15f};
  for (const int64_t n : Lengths()) {
    std::vector<float> x = RandomFloats(rng, n, -30, 18);
    for (int64_t i = 0; i < n; i += 2) x[i] = edges[rng() % edges.size()];
    std::vector<uint16_t> want(n);
    Scalar().f32_to_f16(x.data(), n, want.data());
    for (int64_t i = 0; i < n; ++i) {
      if (std::fabs(x[i]) > 65504.0f) continue;
      // Half a step of the result's exponent.
      ASSERT_LE(std::fabs(HalfToFloat(want[i]) - x[i]), std::max(std::fabs(x[i]) * 0x1p-11, 0x1p-25)) << x[i];
    }
    for (const Isa isa : VectorIsas()) {
      std::vector<uint16_t> got(n);
      KernelsFor(isa).f32_to_f16(x.data(), n, got.data());
      EXPECT_EQ(got, want) << IsaName(isa) << " n " << n;
    }
  }
}

}  // namespace
}  // namespace tandem::engine
