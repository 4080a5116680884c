// Norms, rotations and activations beyond llama's: scalar against double arithmetic, every kernel set against scalar
// bit by bit.
#include <gtest/gtest.h>

#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

const KernelTable& Scalar() { return KernelsFor(Isa::kScalar); }

// All lengths about the vector widths, and a few long ones.
std::vector<int64_t> Lengths() {
  std::vector<int64_t> lengths;
  for (int64_t n = 1; n <= 70; ++n) lengths.push_back(n);
  lengths.insert(lengths.end(), {127, 172, 255, 256, 1000});
  return lengths;
}

TEST(LayerNormTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(21);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -3, 3);
    const std::vector<float> weight = RandomFloats(rng, n, -3, 3), bias = RandomFloats(rng, n, -3, 3);
    std::vector<float> out(n);
    Scalar().layer_norm(x.data(), weight.data(), bias.data(), n, 1e-5f, out.data());
    double mean = 0, variance = 0;
    for (const float v : x) mean += v / static_cast<double>(n);
    for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
    const double inverse = 1 / std::sqrt(variance + 1e-5);
    for (int64_t i = 0; i < n; ++i) {
      const double want = (x[i] - mean) * inverse * weight[i] + bias[i];
      // The mean is off by some roundings of values below 8, which a small deviation magnifies.
      ASSERT_NEAR(out[i], want, 1e-5 * (1 + inverse) * (1 + std::fabs(weight[i]))) << n;
    }
  }
}

TEST(LayerNormTest, EveryIsaEqualsScalarAlsoInPlaceAndWithoutBias) {
  Rng rng(22);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -20, 8);
    const std::vector<float> weight = RandomFloats(rng, n, -3, 3), bias = RandomFloats(rng, n, -3, 3);
    for (const float* added : {bias.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> want(n);
      Scalar().layer_norm(x.data(), weight.data(), added, n, 1e-6f, want.data());
      for (const Isa isa : VectorIsas()) {
        std::vector<float> got = x;
        KernelsFor(isa).layer_norm(got.data(), weight.data(), added, n, 1e-6f, got.data());
        EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " n " << n;
      }
    }
  }
}

TEST(RopeHalvesTest, ScalarRotates) {
  std::vector<float> x = {1, 0, 0, 2, 5, 3, 4, 7, 8, 6};
  const std::vector<float> cos = {0, 0.5f};
  const std::vector<float> sin = {1, 0.25f};
  Scalar().rope_halves(x.data(), 2, 5, 4, cos.data(), sin.data());
  EXPECT_EQ(x, (std::vector<float>{0, -0.5f, 1, 1, 5, -7, 0, 3, 5, 6}));
}

TEST(RopeHalvesTest, EveryIsaEqualsScalarAndLeavesTheRest) {
  Rng rng(23);
  for (const auto& [head_dim, rope_dims] :
       {std::pair{4, 2}, {8, 8}, {12, 10}, {64, 64}, {80, 32}, {96, 96}, {128, 64}}) {
    const std::vector<float> x = RandomFloats(rng, 3 * head_dim, -8, 4);
    const std::vector<float> cos = RandomFloats(rng, rope_dims / 2, -20, 0);
    const std::vector<float> sin = RandomFloats(rng, rope_dims / 2, -20, 0);
    std::vector<float> want = x;
    Scalar().rope_halves(want.data(), 3, head_dim, rope_dims, cos.data(), sin.data());
    for (int i = 0; i < 3 * head_dim; ++i) {
      if (i % head_dim >= rope_dims) {
        EXPECT_EQ(want[i], x[i]);
      }
    }
    for (const Isa isa : VectorIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).rope_halves(got.data(), 3, head_dim, rope_dims, cos.data(), sin.data());
      EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " head_dim " << head_dim;
    }
  }
}

// One of the activation kernels, and what it computes.
struct ActivationCase {
  const char* name;
  KernelTable::Activate KernelTable::*kernel;
  bool takes_null_up;
  double relative, absolute;  // tolerance
  double (*exact)(double gate, double up);
};

const ActivationCase kActivations[] = {
    {"GeluTanh", &KernelTable::gelu_tanh_mul, true, 0x1p-11, 0x1p-25,  // rounded to half
     [](double g, double u) {
       if (std::fabs(g) < 10) g = HalfToFloat(FloatToHalf(static_cast<float>(g)));
       return 0.5 * g * (1 + std::tanh(0.79788456080286535588 * (g + 0.044715 * g * g * g))) * u;
     }},
    {"GeluErf", &KernelTable::gelu_erf_mul, true, 1e-5, 1e-12,
     [](double g, double u) { return 0.5 * g * std::erfc(-g * 0.70710678118654752440) * u; }},
    {"ClampedSwiglu", &KernelTable::clamped_swiglu, false, 1e-5, 1e-12,
     [](double g, double u) {
       g = std::min(g, 7.0);
       return g / (1 + std::exp(-1.702 * g)) * (std::clamp(u, -7.0, 7.0) + 1);
     }},
};

class ActivationTest : public ::testing::TestWithParam<ActivationCase> {};

TEST_P(ActivationTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(24);
  const std::vector<float> gate = RandomFloats(rng, 2000, -20, 4), up = RandomFloats(rng, 2000, -6, 4);
  std::vector<float> out(2000);
  (Scalar().*GetParam().kernel)(gate.data(), up.data(), 2000, out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double want = GetParam().exact(gate[i], up[i]);
    // exp to 1.2e-7 and a few roundings of its argument, up to 2^7 where the result is not yet zero.
    const double tolerance = GetParam().relative * std::fabs(want) + GetParam().absolute * std::fabs(up[i]);
    EXPECT_NEAR(out[i], want, 1.01 * tolerance) << gate[i] << " " << up[i];
  }
}

TEST_P(ActivationTest, EveryIsaEqualsScalarAlsoInPlaceAndAtTheEdges) {
  Rng rng(25);
  const auto kernel = GetParam().kernel;
  for (const int64_t n : Lengths()) {
    std::vector<float> gate = RandomFloats(rng, n, -30, 8);
    const std::vector<float> up = RandomFloats(rng, n, -6, 6);
    for (const float edge : {0.0f, -0.0f, 7.0f, -7.0f, 1e30f, -1e30f}) gate[rng() % n] = edge;
    for (const float* second : {up.data(), static_cast<const float*>(nullptr)}) {
      if (second == nullptr && !GetParam().takes_null_up) continue;
      std::vector<float> want(n);
      (Scalar().*kernel)(gate.data(), second, n, want.data());
      for (const Isa isa : VectorIsas()) {
        std::vector<float> got = gate;
        (KernelsFor(isa).*kernel)(got.data(), second, n, got.data());
        EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " n " << n;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Functions, ActivationTest, ::testing::ValuesIn(kActivations),
                         [](const auto& info) { return info.param.name; });

TEST(SoftCapTest, ScalarMatchesDoubleArithmeticAndEveryIsaEqualsIt) {
  Rng rng(26);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -10, 10);
    std::vector<float> want = x;
    Scalar().soft_cap(want.data(), n, 30.0f);
    for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(want[i], 30 * std::tanh(x[i] / 30.0), 1e-5);
    for (const Isa isa : VectorIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).soft_cap(got.data(), n, 30.0f);
      EXPECT_EQ(FirstDifference(want, got), "") << IsaName(isa) << " n " << n;
    }
  }
}

TEST(AddScaledTest, EveryIsaFuses) {
  Rng rng(27);
  for (const int64_t n : Lengths()) {
    const std::vector<float> x = RandomFloats(rng, n, -10, 10), y = RandomFloats(rng, n, -10, 10);
    for (const Isa isa : SupportedIsas()) {
      std::vector<float> got = x;
      KernelsFor(isa).add_scaled(y.data(), 0.3f, n, got.data());
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(got[i], std::fma(0.3f, y[i], x[i])) << IsaName(isa);
    }
  }
}

}  // namespace
}  // namespace tandem::engine
