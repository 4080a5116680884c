#include "engine/sampling/dry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/sampling/sampler.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Penalties = std::vector<std::pair<int32_t, float>>;

// Penalties after `tokens`, whose texts are letters: token 1 is "a".
Penalties After(const std::vector<int32_t>& tokens, DryParams params = {.multiplier = 0.8f}) {
  DryHistory history(params);
  for (const int32_t token : tokens) history.Append(token, std::string(1, static_cast<char>('a' + token - 1)));
  return history.Penalties();
}

TEST(DryTest, TheTokenThatWouldLengthenARepetitionIsPenalised) {
  // "abci abc": i would make the repetition four long; three are already, one more than what is allowed.
  const Penalties penalties = After({1, 2, 3, 9, 1, 2, 3});
  ASSERT_EQ(penalties.size(), 1u);
  EXPECT_EQ(penalties[0].first, 9);
  EXPECT_FLOAT_EQ(penalties[0].second, 0.8f * 1.75f);
}

TEST(DryTest, ShortRepetitionsAreFree) {
  EXPECT_THAT(After({3, 9, 3}), IsEmpty());
  EXPECT_FLOAT_EQ(After({2, 3, 9, 2, 3}).at(0).second, 0.8f) << "exactly the allowed length";
  EXPECT_THAT(After({2, 3, 9, 2, 3}, {.multiplier = 1.0f, .allowed_length = 3}), IsEmpty());
  EXPECT_THAT(After({}), IsEmpty());
}

TEST(DryTest, TheLongestRepetitionOfATokenCounts) {
  // "bci abci abc": i followed "bc" and "abc".
  const Penalties penalties = After({2, 3, 9, 1, 2, 3, 9, 1, 2, 3});
  // The latest "abc" also continues the run "bci abc" before it, seven tokens long counted from "b".
  ASSERT_EQ(penalties.size(), 1u);
  EXPECT_EQ(penalties[0].first, 9);
  EXPECT_FLOAT_EQ(penalties[0].second, static_cast<float>(0.8 * std::pow(1.75, 6 - 2)));
}

TEST(DryTest, RunsOfOneTokenCountTheirWholeLength) {
  const Penalties penalties = After({5, 5, 5, 5, 5});
  ASSERT_EQ(penalties.size(), 1u);
  EXPECT_FLOAT_EQ(penalties[0].second, static_cast<float>(0.8 * std::pow(1.75, 4 - 2)));
}

TEST(DryTest, NoRepetitionReachesAcrossABreaker) {
  EXPECT_EQ(After({1, 2, 3, 9, 1, 2, 3}, {.multiplier = 1.0f, .breakers = {"z"}}).size(), 1u);
  // "a" breaks: "bc" of "abc" is left.
  EXPECT_FLOAT_EQ(After({1, 2, 3, 9, 1, 2, 3}, {.multiplier = 1.0f, .breakers = {"a"}}).at(0).second, 1.0f);
  EXPECT_THAT(After({1, 2, 3, 9, 1, 2, 3}, {.multiplier = 1.0f, .breakers = {"c"}}), IsEmpty());
}

TEST(DryTest, ABreakerMaySpanTokens) {
  // "ab" ends in token 2, so only "c" is left, which is too short.
  EXPECT_THAT(After({1, 2, 3, 9, 1, 2, 3}, {.multiplier = 1.0f, .breakers = {"ab"}}), IsEmpty());
  EXPECT_EQ(After({1, 2, 3, 9, 1, 2, 3}, {.multiplier = 1.0f, .breakers = {"ba"}}).size(), 1u);
}

TEST(DryTest, TheWindowForgets) {
  const std::vector<int32_t> tokens = {1, 2, 3, 9, 4, 5, 6, 1, 2, 3};
  EXPECT_EQ(After(tokens, {.multiplier = 1.0f, .window = 10}).size(), 1u);
  EXPECT_FLOAT_EQ(After(tokens, {.multiplier = 1.0f, .window = 9}).at(0).second, 1.0f) << "only \"bc\" is seen";
  EXPECT_THAT(After(tokens, {.multiplier = 1.0f, .window = 7}), IsEmpty());
}

TEST(DryTest, LongRepetitionsStayWithinTheBound) {
  const Penalties penalties = After(std::vector<int32_t>(4000, 7), {.multiplier = 100.0f, .base = 4.0f});
  ASSERT_EQ(penalties.size(), 1u);
  EXPECT_EQ(penalties[0].second, kMaxBias);
  EXPECT_TRUE(ValidateDrawState({.dry = penalties}, 100).ok());
}

TEST(ValidateDryTest, NamesTheField) {
  EXPECT_TRUE(ValidateDry({}).ok());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto expect = [](const DryParams& params, const char* field) {
    const absl::Status status = ValidateDry(params);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  };
  expect({.multiplier = nan}, "dry.multiplier");
  expect({.base = 0.5f}, "dry.base");
  expect({.allowed_length = 0}, "dry.allowed_length");
  expect({.window = 65537}, "dry.window");
  expect({.breakers = {""}}, "dry.breakers");
  expect({.breakers = std::vector<std::string>(65, "x")}, "dry.breakers");
}

}  // namespace
}  // namespace tandem::engine
