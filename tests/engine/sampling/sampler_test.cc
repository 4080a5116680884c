#include "engine/sampling/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/engine/sampling/draws.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(CounterRandomTest, KnownAnswersOfPhilox) {
  // The first is the all-zero vector of the paper's own tests; the second was computed in Python from the definition.
  EXPECT_EQ(CounterRandom(0, 0)[0], 0x6627e8d5u);
  EXPECT_EQ(CounterRandom(0x0123456789abcdefu, 0xfedcba9876543210u)[0], 0x2c03a599u);
}

TEST(CounterRandomTest, EveryBitOfSeedAndPositionCounts) {
  std::set<std::array<uint32_t, 4>> seen = {CounterRandom(0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    seen.insert(CounterRandom(uint64_t{1} << bit, 0));
    seen.insert(CounterRandom(0, uint64_t{1} << bit));
  }
  EXPECT_EQ(seen.size(), 129u);
}

TEST(SampleTest, GreedyTakesTheLargestAndTheLowestIdAmongEquals) {
  EXPECT_EQ(Token({1.0f, 3.0f, 2.0f}, {}), 1);
  EXPECT_EQ(Token({1.0f, 3.0f, 3.0f}, {}), 1);
  EXPECT_EQ(Token({-kInf, -kInf, -7.0f}, {}), 2);
}

TEST(SampleTest, GreedyDoesNotDependOnSeedOrPosition) {
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(Token({0.0f, 0.1f, 0.0f}, {.seed = i}, {}, i), 1);
}

TEST(SampleTest, DrawsFollowTheSoftmax) {
  const std::vector<double> p = {0.4, 0.3, 0.15, 0.1, 0.05};
  constexpr int kDraws = 50000;
  for (const uint64_t seed : {1u, 2u, 77u}) {
    const auto shares = Shares(LogitsOf(p), {.temperature = 1.0f, .seed = seed}, kDraws);
    EXPECT_LT(ChiSquare(shares, p, kDraws), 18.47) << "0.1 % point of 4 degrees of freedom, seed " << seed;
  }
}

TEST(SampleTest, TemperatureRaisesTheProbabilitiesToItsInverse) {
  const std::vector<double> p = {0.5, 0.3, 0.2};
  constexpr int kDraws = 50000;
  const double total = 0.25 + 0.09 + 0.04;  // temperature 0.5 squares them
  const auto shares = Shares(LogitsOf(p), {.temperature = 0.5f, .seed = 5}, kDraws);
  EXPECT_LT(ChiSquare(shares, {0.25 / total, 0.09 / total, 0.04 / total}, kDraws), 13.82);
}

TEST(SampleTest, TinyTemperatureIsGreedyAndNotNan) {
  EXPECT_EQ(Support({1.0f, 1.5f, -3e38f, 1.4f}, {.temperature = 1e-38f}, 50), std::set<int32_t>{1});
}

TEST(SampleTest, SameSeedAndPositionGiveTheSameTokenAndOthersDiffer) {
  const std::vector<float> logits(1000, 0.0f);
  const SamplingParams a = {.temperature = 1.0f, .seed = 1}, b = {.temperature = 1.0f, .seed = 2};
  int same = 0;
  for (uint64_t position = 0; position < 100; ++position) {
    EXPECT_EQ(Token(logits, a, {}, position), Token(logits, a, {}, position));
    same += Token(logits, a, {}, position) == Token(logits, b, {}, position);
  }
  EXPECT_LT(same, 5);
}

TEST(SampleTest, TokensThatWereDroppedCountAsPositions) {
  const std::vector<float> logits(1000);
  const SamplingParams params = {.temperature = 1.0f, .seed = 9};
  for (uint64_t position = 0; position < 100; ++position) {
    EXPECT_EQ(Sample(logits, params, {.dropped = 4000}, position)->token, Token(logits, params, {}, 4000 + position));
  }
}

TEST(SampleTest, TopKKeepsTheKLargestWithLowerIdsFirst) {
  EXPECT_EQ(Support({1.0f, 2.0f, 1.5f, 0.5f}, {.temperature = 1.0f, .top_k = 2}), (std::set<int32_t>{1, 2}));
  EXPECT_EQ(Support({1.0f, 1.0f, 1.0f, 1.0f}, {.temperature = 1.0f, .top_k = 3}), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(Support({1.0f, 1.0f}, {.temperature = 1.0f, .top_k = 5}), (std::set<int32_t>{0, 1}));
}

TEST(SampleTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = LogitsOf({0.1, 0.5, 0.25, 0.15});
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .top_p = 0.4f}), std::set<int32_t>{1});
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .top_p = 0.6f}), (std::set<int32_t>{1, 2}));
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .top_p = 0.8f}), (std::set<int32_t>{1, 2, 3}));
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .top_p = 0.95f}), (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(SampleTest, TopPAlwaysKeepsOneAndBreaksTiesByLowerId) {
  EXPECT_EQ(Support({0.0f, 0.0f, 0.0f, 0.0f}, {.temperature = 1.0f, .top_p = 1e-6f}), std::set<int32_t>{0});
  EXPECT_EQ(Support({0.0f, 0.0f, 0.0f, 0.0f}, {.temperature = 1.0f, .top_p = 0.5f}), (std::set<int32_t>{0, 1}));
}

TEST(SampleTest, TopPOverAFlatDistributionSortsBeyondItsFirstGuess) {
  const std::vector<float> logits(1000, 0.0f);
  const std::set<int32_t> support = Support(logits, {.temperature = 1.0f, .top_p = 0.5f}, 20000);
  EXPECT_EQ(support.size(), 500u);
  EXPECT_EQ(*support.rbegin(), 499);
}

TEST(SampleTest, TopPCountsItsShareOfWhatTopKLeft) {
  // After top_k = 2 the shares are 2/3 and 1/3: the first alone reaches 0.6. Of all tokens it has only 0.5.
  const SamplingParams params = {.temperature = 1.0f, .top_k = 2, .top_p = 0.6f};
  EXPECT_EQ(Support(LogitsOf({0.5, 0.25, 0.15, 0.1}), params), std::set<int32_t>{0});
}

TEST(SampleTest, MinPKeepsTokensNearTheMostProbable) {
  const std::vector<float> logits = LogitsOf({0.05, 0.5, 0.3, 0.15});
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .min_p = 0.5f}), (std::set<int32_t>{1, 2}));
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .min_p = 1.0f}), std::set<int32_t>{1});
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .min_p = 0.01f}), (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(SampleTest, FiltersSeeTheTemperature) {
  // 0.3 / 0.5 = 0.6 falls to 0.36 at temperature 0.5.
  const std::vector<float> logits = LogitsOf({0.5, 0.3, 0.2});
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .min_p = 0.5f}), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(Support(logits, {.temperature = 0.5f, .min_p = 0.5f}), std::set<int32_t>{0});
}

TEST(SampleTest, FilteredDrawsKeepTheProportions) {
  constexpr int kDraws = 50000;
  const auto shares = Shares(LogitsOf({0.05, 0.45, 0.3, 0.2}), {.temperature = 1.0f, .top_k = 2, .seed = 9}, kDraws);
  EXPECT_EQ(shares.size(), 2u);
  EXPECT_NEAR(shares.at(1), 0.6, 0.01);
  EXPECT_NEAR(shares.at(2), 0.4, 0.01);
}

TEST(SampleTest, BannedTokensAreNeverDrawn) {
  const SamplingParams params = {.temperature = 1.0f, .logit_bias = {{1, -kInf}}};
  EXPECT_EQ(Support({0.0f, 5.0f, 0.0f}, params), (std::set<int32_t>{0, 2}));
  EXPECT_EQ(Token({0.0f, 5.0f, 1.0f}, {.logit_bias = {{1, -kInf}}}), 2);
}

TEST(SampleTest, BiasAddsUp) {
  EXPECT_EQ(Token({0.0f, 1.5f}, {.logit_bias = {{0, 1.0f}}}), 1);
  EXPECT_EQ(Token({0.0f, 1.5f}, {.logit_bias = {{0, 1.0f}, {0, 1.0f}}}), 0);
}

TEST(SampleTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  EXPECT_EQ(Token({3.0f, 2.0f}, {.repetition_penalty = 1.4f}, {0}), 0);
  EXPECT_EQ(Token({3.0f, 2.0f}, {.repetition_penalty = 1.6f}, {0}), 1);
  EXPECT_EQ(Token({-1.0f, -1.5f}, {.repetition_penalty = 1.4f}, {0}), 0);
  EXPECT_EQ(Token({-1.0f, -1.5f}, {.repetition_penalty = 1.6f}, {0}), 1);
  // Once, however often the token occurred.
  EXPECT_EQ(Token({3.0f, 2.0f}, {.repetition_penalty = 1.4f}, {0, 0, 0}), 0);
}

TEST(SampleTest, PresencePenaltyCountsOnceAndFrequencyPenaltyEachTime) {
  EXPECT_EQ(Token({3.0f, 2.0f}, {.presence_penalty = 0.6f}, {0, 0}), 0);
  EXPECT_EQ(Token({3.0f, 2.0f}, {.presence_penalty = 1.1f}, {0}), 1);
  EXPECT_EQ(Token({3.0f, 2.0f}, {.frequency_penalty = 0.6f}, {0}), 0);
  EXPECT_EQ(Token({3.0f, 2.0f}, {.frequency_penalty = 0.6f}, {0, 0}), 1);
}

TEST(SampleTest, RepetitionComesBeforePresence) {
  // 4 / 2 - 1 = 1 beats 0.9; (4 - 1) / 2 = 1.5 would beat 1.2 as well, which it must not.
  EXPECT_EQ(Token({4.0f, 0.9f}, {.repetition_penalty = 2.0f, .presence_penalty = 1.0f}, {0}), 0);
  EXPECT_EQ(Token({4.0f, 1.2f}, {.repetition_penalty = 2.0f, .presence_penalty = 1.0f}, {0}), 1);
}

TEST(SampleTest, BiasComesBeforePenalties) {
  // (1 + 3) / 2 = 2 loses to 2.5; 1 / 2 + 3 = 3.5 would win.
  EXPECT_EQ(Token({1.0f, 2.5f}, {.repetition_penalty = 2.0f, .logit_bias = {{0, 3.0f}}}, {0}), 1);
}

TEST(SampleTest, PenaltiesSeeOnlyTheirWindow) {
  const SamplingParams two = {.presence_penalty = 2.0f, .penalty_window = 2};
  EXPECT_EQ(Token({3.0f, 2.0f, 0.0f}, two, {0, 2, 2}), 0);
  EXPECT_EQ(Token({3.0f, 2.0f, 0.0f}, two, {2, 0, 2}), 1);
  EXPECT_EQ(Token({3.0f, 2.0f, 0.0f}, {.presence_penalty = 2.0f, .penalty_window = 0}, {0, 0}), 0);
}

TEST(SampleTest, HugeLogitsStayFinite) {
  const SamplingParams params = {.repetition_penalty = 0.01f, .logit_bias = {{0, 1e6f}}, .top_logprobs = 0};
  EXPECT_EQ(Token({3e38f, 1.0f}, params, {0}), 0);
}

TEST(SampleTest, NanAndPlusInfinityAreInternalErrors) {
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplingParams params = {.temperature = temperature};
    for (const std::vector<float>& logits :
         {std::vector<float>{1.0f, kNan}, std::vector<float>{kNan, 1.0f}, std::vector<float>{kInf, 1.0f},
          std::vector<float>{-kInf, -kInf}, std::vector<float>{}}) {
      EXPECT_EQ(Sample(logits, params, {}, 0).status().code(), absl::StatusCode::kInternal);
    }
  }
}

TEST(SampleTest, BanningEveryTokenIsInvalid) {
  const SamplingParams params = {.logit_bias = {{0, -kInf}, {1, -kInf}}};
  EXPECT_EQ(Sample(std::vector<float>{1.0f, 2.0f}, params, {}, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SampleTest, LogprobsAreTheModelsSoftmax) {
  const std::vector<float> logits = {0.5f, -2.0f, 3.0f, 3.0f, 11.0f, -kInf};
  const auto result = Sample(logits, {.logit_bias = {{4, -kInf}}, .top_logprobs = 4}, {}, 0);
  ASSERT_TRUE(result.ok());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const auto expected = [&](int32_t token) { return static_cast<double>(logits[token]) - std::log(sum); };
  constexpr double kTolerance = 1e-6;  // CanonicalExp is right to 2e-7, the result is a float below 16
  EXPECT_EQ(result->token, 2);         // the bias changes the choice, not the report
  EXPECT_NEAR(result->logprob, expected(2), kTolerance);
  ASSERT_EQ(result->top.size(), 4u);
  const std::vector<int32_t> order = {4, 2, 3, 0};
  for (size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(result->top[i].token, order[i]);
    EXPECT_NEAR(result->top[i].logprob, expected(order[i]), kTolerance);
  }
}

TEST(SampleTest, LogprobsComeOnlyWhenAskedForAndNeverBeyondTheVocabulary) {
  const std::vector<float> logits = {1.0f, 2.0f};
  EXPECT_TRUE(Sample(logits, {}, {}, 0)->top.empty());
  EXPECT_EQ(Sample(logits, {}, {}, 0)->logprob, 0.0f);
  EXPECT_TRUE(Sample(logits, {.top_logprobs = 0}, {}, 0)->top.empty());
  EXPECT_LT(Sample(logits, {.top_logprobs = 0}, {}, 0)->logprob, 0.0f);
  EXPECT_EQ(Sample(logits, {.top_logprobs = 5}, {}, 0)->top.size(), 2u);
}

struct BadField {
  const char* field;
  SamplingParams params;
};

void PrintTo(const BadField& bad, std::ostream* os) { *os << bad.field; }

class ValidateSamplingTest : public testing::TestWithParam<BadField> {};

TEST_P(ValidateSamplingTest, NamesTheFieldAndTheRange) {
  const absl::Status status = ValidateSampling(GetParam().params, 100);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().field));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ValidateSamplingTest,
    testing::Values(
        BadField{"temperature", {.temperature = -0.1f}}, BadField{"temperature", {.temperature = kNan}},
        BadField{"temperature", {.temperature = kInf}}, BadField{"temperature", {.temperature = 100.1f}},
        BadField{"top_k", {.top_k = -1}}, BadField{"top_p", {.top_p = 0.0f}}, BadField{"top_p", {.top_p = 1.01f}},
        BadField{"top_p", {.top_p = kNan}}, BadField{"min_p", {.min_p = -0.1f}}, BadField{"min_p", {.min_p = 1.1f}},
        BadField{"min_p", {.min_p = kNan}}, BadField{"repetition_penalty", {.repetition_penalty = 0.0f}},
        BadField{"repetition_penalty", {.repetition_penalty = kNan}},
        BadField{"repetition_penalty", {.repetition_penalty = kInf}},
        BadField{"presence_penalty", {.presence_penalty = kInf}},
        BadField{"presence_penalty", {.presence_penalty = kNan}},
        BadField{"frequency_penalty", {.frequency_penalty = -kInf}},
        BadField{"frequency_penalty", {.frequency_penalty = kNan}}, BadField{"penalty_window", {.penalty_window = -1}},
        BadField{"token 100", {.logit_bias = {{100, 0.0f}}}}, BadField{"token -1", {.logit_bias = {{-1, 0.0f}}}},
        BadField{"logit_bias", {.logit_bias = {{1, kNan}}}}, BadField{"logit_bias", {.logit_bias = {{1, kInf}}}},
        BadField{"logit_bias", {.logit_bias = {{1, -2e6f}}}},
        BadField{"logit_bias", {.logit_bias = std::vector<std::pair<int32_t, float>>(4097)}},
        BadField{"typical_p", {.typical_p = 0.0f}}, BadField{"typical_p", {.typical_p = kNan}},
        BadField{"top_n_sigma", {.top_n_sigma = -1.0f}}, BadField{"top_n_sigma", {.top_n_sigma = kInf}},
        BadField{"xtc_probability", {.xtc_probability = 1.1f}}, BadField{"xtc_threshold", {.xtc_threshold = 0.0f}},
        BadField{"xtc_threshold", {.xtc_threshold = 0.6f}}, BadField{"mirostat", {.mirostat = 3}},
        BadField{"temperature 0", {.mirostat = 2}}, BadField{"mirostat_tau", {.mirostat_tau = 0.0f}},
        BadField{"mirostat_tau", {.mirostat_tau = 20.5f}}, BadField{"mirostat_eta", {.mirostat_eta = kNan}},
        BadField{"top_k twice", {.filters = {Filter::kTopK, Filter::kTopK}}},
        BadField{"top_k is set", {.top_k = 5, .filters = {Filter::kTopP}}},
        BadField{"temperature is set", {.temperature = 0.5f, .filters = {Filter::kTopP}}},
        BadField{"number 9", {.filters = {static_cast<Filter>(9)}}}, BadField{"top_logprobs", {.top_logprobs = -2}},
        BadField{"top_logprobs", {.top_logprobs = 257}}));

TEST(ValidateSamplingTest, ABiasThatBansEveryTokenIsRefused) {
  SamplingParams params;
  const float ban = -std::numeric_limits<float>::infinity();
  params.logit_bias = {{0, ban}, {1, ban}, {2, 0.5f}};
  EXPECT_TRUE(ValidateSampling(params, 3).ok());
  params.logit_bias[2].second = ban;
  EXPECT_EQ(ValidateSampling(params, 3).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ValidateSamplingTest, DefaultsAndLimitsAreValid) {
  EXPECT_TRUE(ValidateSampling({}, 1).ok());
  EXPECT_TRUE(ValidateSampling({.temperature = 100.0f,
                                .top_k = 1,
                                .top_p = 1.0f,
                                .min_p = 1.0f,
                                .repetition_penalty = 0.01f,
                                .presence_penalty = -100.0f,
                                .frequency_penalty = 100.0f,
                                .penalty_window = 0,
                                .logit_bias = {{99, -kInf}, {0, 1e6f}},
                                .top_logprobs = 256},
                               100)
                  .ok());
}

}  // namespace
}  // namespace tandem::engine
