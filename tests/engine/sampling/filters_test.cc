// The filters beyond top-k, top-p and min-p (sampler_test.cc has those), each against a distribution worked out by
// hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/sampling/sampler.h"
#include "tests/engine/sampling/draws.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using Tokens = std::set<int32_t>;

constexpr int kDraws = 50000;
// 0.1 % points of the chi-square distribution by degrees of freedom.
constexpr double kChi1 = 10.83, kChi3 = 16.27;

// Surprises of 1, 2, 3 and 3 bits: the entropy is 1.75 bits.
std::vector<float> Dyadic() { return LogitsOf({0.5, 0.25, 0.125, 0.125}); }

TEST(TypicalTest, KeepsTheTokensWhoseSurpriseIsNearestToTheEntropy) {
  // Distances from 1.75 bits: 0.75, 0.25, 1.25, 1.25.
  EXPECT_EQ(Support(Dyadic(), {.temperature = 1.0f, .typical_p = 0.2f}), Tokens{1});
  EXPECT_EQ(Support(Dyadic(), {.temperature = 1.0f, .typical_p = 0.5f}), (Tokens{0, 1}));
  EXPECT_EQ(Support(Dyadic(), {.temperature = 1.0f, .typical_p = 0.8f}), (Tokens{0, 1, 2}));
  EXPECT_EQ(Support(Dyadic(), {.temperature = 1.0f, .typical_p = 0.9f}), (Tokens{0, 1, 2, 3}));
  const auto shares = Shares(Dyadic(), {.temperature = 1.0f, .typical_p = 0.5f, .seed = 3}, kDraws);
  EXPECT_LT(ChiSquare(shares, {2.0 / 3, 1.0 / 3}, kDraws), kChi1);
}

TEST(TypicalTest, TokensWithoutProbabilityDoNotSpoilTheEntropy) {
  std::vector<float> logits = Dyadic();
  logits.push_back(-1e30f);
  EXPECT_EQ(Support(logits, {.temperature = 1.0f, .typical_p = 0.2f}), Tokens{1});
}

TEST(TopNSigmaTest, KeepsLogitsNearTheLargest) {
  // Mean 2, standard deviation sqrt(2).
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f};
  EXPECT_EQ(Support(logits, {.temperature = 5.0f, .top_n_sigma = 0.5f}), Tokens{4});
  EXPECT_EQ(Support(logits, {.temperature = 5.0f, .top_n_sigma = 1.0f}), (Tokens{3, 4}));
  EXPECT_EQ(Support(logits, {.temperature = 5.0f, .top_n_sigma = 2.0f}), (Tokens{2, 3, 4}));
  // The same before and after the temperature.
  EXPECT_EQ(Support(logits, {.temperature = 0.5f, .top_n_sigma = 1.0f}), (Tokens{3, 4}));
}

TEST(XtcTest, DropsAllButTheLeastOfTheTopChoices) {
  const std::vector<float> logits = LogitsOf({0.4, 0.3, 0.2, 0.1});
  const SamplingParams params = {.temperature = 1.0f, .xtc_probability = 1.0f, .xtc_threshold = 0.15f, .seed = 1};
  EXPECT_EQ(Support(logits, params), (Tokens{2, 3}));
  const auto shares = Shares(logits, params, kDraws);
  EXPECT_LT(ChiSquare({{0, shares.at(2)}, {1, shares.at(3)}}, {2.0 / 3, 1.0 / 3}, kDraws), kChi1);
}

TEST(XtcTest, OneTopChoiceStays) {
  const SamplingParams params = {.temperature = 1.0f, .xtc_probability = 1.0f, .xtc_threshold = 0.35f};
  EXPECT_EQ(Support(LogitsOf({0.4, 0.3, 0.2, 0.1}), params), (Tokens{0, 1, 2, 3}));
}

TEST(XtcTest, ItsChanceIsIndependentOfTheDraw) {
  const SamplingParams params = {.temperature = 1.0f, .xtc_probability = 0.5f, .xtc_threshold = 0.15f, .seed = 9};
  const auto shares = Shares(LogitsOf({0.4, 0.3, 0.2, 0.1}), params, kDraws);
  EXPECT_LT(ChiSquare(shares, {0.2, 0.15, 0.1 + 1.0 / 3, 0.05 + 0.5 / 3}, kDraws), kChi3);
}

TEST(FilterOrderTest, TheListDecidesWhatComesFirst) {
  // 0.3 / 0.5 = 0.6; at temperature 0.5 it is 0.36.
  const std::vector<float> logits = LogitsOf({0.5, 0.3, 0.2});
  SamplingParams params = {.temperature = 0.5f, .min_p = 0.5f};
  EXPECT_EQ(Support(logits, params), Tokens{0});
  params.filters = {Filter::kMinP, Filter::kTemperature};
  EXPECT_EQ(Support(logits, params), (Tokens{0, 1}));
  const auto shares = Shares(logits, params, kDraws);
  EXPECT_LT(ChiSquare(shares, {0.25 / 0.34, 0.09 / 0.34}, kDraws), kChi1);
}

TEST(FilterOrderTest, PenaltiesMayComeAfterAFilter) {
  // top-k takes token 0 alone; penalised first, it would be token 1.
  const std::vector<int32_t> recent = {0};
  SamplingParams params = {.temperature = 1.0f, .top_k = 1, .presence_penalty = 5.0f};
  EXPECT_EQ(Drawn({2.0f, 1.0f}, params, {.recent = recent}, 0), 1);
  params.filters = {Filter::kTopK, Filter::kPenalties};
  EXPECT_EQ(Drawn({2.0f, 1.0f}, params, {.recent = recent}, 0), 0);
}

TEST(FilterOrderTest, TheDefaultIsTheOrderOfTheEnum) {
  SamplingParams params = {.temperature = 0.7f, .top_k = 5, .top_p = 0.9f, .min_p = 0.02f, .typical_p = 0.95f};
  params.xtc_probability = 0.5f;
  SamplingParams named = params;
  for (int i = 0; i < kNumFilters; ++i) named.filters.push_back(static_cast<Filter>(i));
  const std::vector<float> logits = LogitsOf({0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.07});
  for (uint64_t position = 0; position < 500; ++position) {
    EXPECT_EQ(Drawn(logits, params, {}, position), Drawn(logits, named, {}, position));
  }
}

TEST(AllowedTest, OnlyAllowedTokensAreDrawnInTheirOwnProportions) {
  std::vector<float> logits(130, 0.0f);
  logits[3] = std::log(2.0f);
  logits[70] = 50.0f;
  const std::vector<uint64_t> allowed = {uint64_t{1} << 3 | uint64_t{1} << 9, 0, 2};  // 3, 9 and 129
  const auto shares = Shares(logits, {.temperature = 1.0f, .seed = 2}, kDraws, {.allowed = allowed});
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_LT(ChiSquare({{0, shares.at(3)}, {1, shares.at(9)}, {2, shares.at(129)}}, {0.5, 0.25, 0.25}, kDraws), 13.82);
  EXPECT_EQ(Drawn(logits, {}, {.allowed = allowed}, 0), 3) << "greedy";
}

TEST(AllowedTest, LogprobsStayThoseOfTheModel) {
  const std::vector<float> logits = LogitsOf({0.75, 0.25});
  const std::vector<uint64_t> allowed = {2};
  const auto result = Sample(logits, {.temperature = 1.0f, .top_logprobs = 1}, {.allowed = allowed}, 0);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->token, 1);
  EXPECT_NEAR(result->logprob, std::log(0.25), 1e-6);
  EXPECT_EQ(result->top[0].token, 0);
}

TEST(AllowedTest, ABanOfAllThatIsAllowedIsInvalid) {
  const std::vector<uint64_t> allowed = {2};
  const SamplingParams params = {.logit_bias = {{1, -std::numeric_limits<float>::infinity()}}};
  EXPECT_EQ(Sample(std::vector<float>{1.0f, 2.0f}, params, {.allowed = allowed}, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(BanTest, ABannedTokenIsNeverDrawnWhateverTheFilters) {
  SamplingParams params = {.temperature = 100.0f, .typical_p = 0.99f, .top_n_sigma = 50.0f, .xtc_probability = 0.5f};
  params.logit_bias = {{1, -std::numeric_limits<float>::infinity()}, {1, 1e6f}};
  EXPECT_EQ(Support({0.0f, 9.0f, 1.0f}, params), (Tokens{0, 2}));
}

TEST(DryDrawTest, PenaltiesAreSubtracted) {
  const std::vector<std::pair<int32_t, float>> dry = {{0, 1.5f}};
  EXPECT_EQ(Drawn({3.0f, 2.0f}, {}, {.dry = dry}, 0), 1);
  EXPECT_EQ(Drawn({3.6f, 2.0f}, {}, {.dry = dry}, 0), 0);
  EXPECT_EQ(Drawn({3.0f, 2.0f}, {.filters = {Filter::kTopK}}, {.dry = dry}, 0), 0) << "not named, not applied";
}

// mu moves to mu - eta * (surprise - tau).
TEST(Mirostat2Test, DropsWhatSurprisesMoreThanMu) {
  const SamplingParams params = {.temperature = 1.0f, .mirostat = 2, .mirostat_tau = 5.0f, .mirostat_eta = 0.1f};
  const auto one = Sample(Dyadic(), params, {.mirostat_mu = 1.5f}, 0);
  EXPECT_EQ(one->token, 0);
  EXPECT_NEAR(one->mirostat_mu, 1.5 + 0.5, 1e-5) << "the only token left does not surprise";
  const auto shares = Shares(Dyadic(), params, kDraws, {.mirostat_mu = 2.5f});
  EXPECT_LT(ChiSquare(shares, {2.0 / 3, 1.0 / 3}, kDraws), kChi1);
  for (uint64_t position = 0; position < 20; ++position) {
    const auto two = Sample(Dyadic(), params, {.mirostat_mu = 2.5f}, position);
    const double surprise = two->token == 0 ? std::log2(1.5) : std::log2(3.0);
    EXPECT_NEAR(two->mirostat_mu, 2.5 - 0.1 * (surprise - 5.0), 1e-5);
  }
  EXPECT_EQ(Drawn(Dyadic(), params, {.mirostat_mu = -3.0f}, 0), 0) << "one token always stays";
}

TEST(Mirostat1Test, KeepsAsManyTokensAsTheZipfEstimateGives) {
  const auto zipf = [](double s) {
    std::vector<float> logits(1000);
    for (size_t i = 0; i < logits.size(); ++i)
      logits[i] = static_cast<float>(-s * std::log(static_cast<double>(i + 1)));
    return logits;
  };
  const SamplingParams params = {.temperature = 1.0f, .mirostat = 1};
  const auto kept = [&](const std::vector<float>& logits, float mu) {
    Tokens tokens;
    for (const auto& [token, share] : Shares(logits, params, 4000, {.mirostat_mu = mu})) tokens.insert(token);
    return tokens;
  };
  // s = 2: k = sqrt(2^4 / (1 - 1/1000)) = 4.002.
  EXPECT_EQ(kept(zipf(2.0), 4.0f), (Tokens{0, 1, 2, 3}));
  // s = 1, the limit: k = 2^4 / ln 1000 = 2.32.
  EXPECT_EQ(kept(zipf(1.0), 4.0f), (Tokens{0, 1}));
  // All alike: k = 2^mu.
  EXPECT_EQ(kept(zipf(0.0), 4.0f).size(), 16u);
  EXPECT_EQ(kept(zipf(2.0), -5.0f), Tokens{0});
}

TEST(MirostatTest, TheSurpriseSettlesAtTau) {
  std::vector<float> logits(2000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(-1.1 * std::log(static_cast<double>(i + 1)));
  for (const int32_t version : {1, 2}) {
    const SamplingParams params = {.temperature = 1.0f, .mirostat = version, .mirostat_tau = 3.0f, .seed = 4};
    float mu = 6.0f;
    double error = 0.0;
    constexpr int kTokens = 2000;
    for (int i = 0; i < kTokens; ++i) {
      const auto result = Sample(logits, params, {.mirostat_mu = mu}, static_cast<uint64_t>(i));
      ASSERT_TRUE(result.ok());
      error += static_cast<double>(mu - result->mirostat_mu) / 0.1 / kTokens;  // surprise - tau
      mu = result->mirostat_mu;
    }
    EXPECT_LT(std::fabs(error), 0.1) << "version " << version;
  }
}

TEST(ValidateDrawStateTest, NamesWhatIsWrong) {
  const std::vector<int32_t> recent = {1, 70};
  const std::vector<std::pair<int32_t, float>> twice = {{4, 1.0f}, {4, 1.0f}}, huge = {{4, 2e6f}}, far = {{70, 1.0f}};
  const std::vector<uint64_t> good = {1, 1}, none = {0, 0}, beyond = {1, 64}, short_one = {1};
  EXPECT_TRUE(ValidateDrawState({.allowed = good}, 70).ok());
  const auto expect = [](const DrawState& state, const char* field) {
    const absl::Status status = ValidateDrawState(state, 70);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  };
  expect({.recent = recent}, "recent[1]");
  expect({.dry = twice}, "dry[1]");
  expect({.dry = huge}, "dry[0]");
  expect({.dry = far}, "dry[0]");
  expect({.allowed = none}, "no token");
  expect({.allowed = beyond}, "beyond the vocabulary of 70");
  expect({.allowed = short_one}, "1 words, expected 2");
  expect({.mirostat_mu = std::numeric_limits<float>::quiet_NaN()}, "mirostat_mu");
}

}  // namespace
}  // namespace tandem::engine
