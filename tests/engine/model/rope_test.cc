#include "engine/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tandem::engine {
namespace {

struct Rotation {
  std::vector<float> cos, sin;
};

Rotation RotationAt(const RopeSpec& spec, int32_t position, std::vector<float> factors = {}) {
  const auto rope = RopeFrequencies::Create(spec, factors);
  EXPECT_TRUE(rope.ok()) << rope.status();
  Rotation result{std::vector<float>(rope->pairs()), std::vector<float>(rope->pairs())};
  rope->Rotation(position, result.cos.data(), result.sin.data());
  return result;
}

TEST(RopeTest, PairsTurnByPowersOfTheBase) {
  const RopeSpec spec = {.base = 500000.0f, .dims = 128};
  for (int32_t position : {0, 1, 77, 8191, kMaxPositions - 1}) {
    const Rotation rotation = RotationAt(spec, position);
    ASSERT_EQ(rotation.cos.size(), 64u);
    for (int pair = 0; pair < 64; ++pair) {
      const double angle = position * std::pow(500000.0, -pair / 64.0);
      // Rounding to float, and a last-place error of the power magnified by the position.
      EXPECT_NEAR(rotation.cos[pair], std::cos(angle), 1e-7) << position << " " << pair;
      EXPECT_NEAR(rotation.sin[pair], std::sin(angle), 1e-7) << position << " " << pair;
    }
  }
}

TEST(RopeTest, LinearScalingDividesPositions) {
  const RopeSpec plain = {.dims = 32};
  const RopeSpec scaled = {.dims = 32, .scaling = RopeScaling::kLinear, .factor = 4.0f};
  EXPECT_EQ(RotationAt(scaled, 400).cos, RotationAt(plain, 100).cos);
  EXPECT_EQ(RotationAt(scaled, 400).sin, RotationAt(plain, 100).sin);
  EXPECT_NE(RotationAt(scaled, 400).sin, RotationAt(plain, 400).sin);
}

TEST(RopeTest, FactorsDivideFrequencies) {
  const RopeSpec spec = {.dims = 4};
  const Rotation rotation = RotationAt(spec, 1000, {2.0f, 8.0f});
  EXPECT_NEAR(rotation.cos[0], std::cos(500.0), 1e-7);
  EXPECT_NEAR(rotation.sin[1], std::sin(1000.0 * 0.01 / 8.0), 1e-7);
}

TEST(RopeTest, YarnKeepsFastPairsAndSlowsSlowOnes) {
  const RopeSpec spec = {.dims = 128, .scaling = RopeScaling::kYarn, .factor = 8.0f, .original_context = 4096};
  // Pair 20 makes 4096 / (2 pi 10000^(20/64)) = 36.7 turns, more than beta_fast; pair 46 0.87, less than beta_slow.
  const double magnitude = 1.0 + 0.1 * std::log(8.0);
  const Rotation rotation = RotationAt(spec, 100);
  const auto angle = [](int pair) { return 100.0 * std::pow(10000.0, -pair / 64.0); };
  EXPECT_NEAR(rotation.sin[0], magnitude * std::sin(angle(0)), 2e-7);
  EXPECT_NEAR(rotation.sin[20], magnitude * std::sin(angle(20)), 2e-7);
  EXPECT_NEAR(rotation.sin[46], magnitude * std::sin(angle(46) / 8.0), 2e-7);
  EXPECT_NEAR(rotation.cos[63], magnitude * std::cos(angle(63) / 8.0), 2e-7);
  // In between a blend.
  const double between = rotation.sin[33] / magnitude;
  EXPECT_GT(between, std::sin(angle(33) / 8.0) + 1e-3);
  EXPECT_LT(between, std::sin(angle(33)) - 1e-3);
}

TEST(RopeTest, YarnWithoutBlendIsLinear) {
  const RopeSpec yarn = {
      .dims = 32, .scaling = RopeScaling::kYarn, .factor = 4.0f, .original_context = 4096, .yarn_ext_factor = 0.0f};
  const RopeSpec linear = {.dims = 32, .scaling = RopeScaling::kLinear, .factor = 4.0f};
  EXPECT_EQ(RotationAt(yarn, 99).cos, RotationAt(linear, 99).cos);
}

TEST(RopeTest, AttentionFactorMultipliesRotations) {
  const RopeSpec spec = {.dims = 4, .attn_factor = 1.25f};
  EXPECT_EQ(RotationAt(spec, 0).cos, (std::vector<float>{1.25f, 1.25f}));
}

TEST(RopeTest, BrokenFactorsReturnInvalidArgument) {
  const RopeSpec spec = {.dims = 4};
  for (const std::vector<float>& factors : std::vector<std::vector<float>>{
           {1.0f}, {1.0f, 1.0f, 1.0f}, {0.0f, 1.0f}, {0.5f, 1.0f}, {1.0f, -1.0f}, {NAN, 1.0f}, {INFINITY, 1.0f}}) {
    const auto rope = RopeFrequencies::Create(spec, factors);
    EXPECT_EQ(rope.status().code(), absl::StatusCode::kInvalidArgument) << factors[0] << " of " << factors.size();
  }
}

}  // namespace
}  // namespace tandem::engine
