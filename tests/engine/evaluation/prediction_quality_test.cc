#include "engine/evaluation/prediction_quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace tandem::engine {
namespace {

TEST(PredictionQualityTest, LogSoftmaxOfHandComputedLogits) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  std::vector<double> out(3);
  LogSoftmax(logits, out);
  EXPECT_NEAR(out[0], std::log(0.125), 1e-7);
  EXPECT_NEAR(out[1], std::log(0.25), 1e-7);
  EXPECT_NEAR(out[2], std::log(0.625), 1e-7);
  const std::vector<float> large = {1000, 1000};
  out.resize(2);
  LogSoftmax(large, out);
  EXPECT_NEAR(out[0], std::log(0.5), 1e-12);
}

TEST(PredictionQualityTest, DivergenceOfHandComputedDistributions) {
  const std::vector<double> base = {std::log(0.5), std::log(0.5)}, model = {std::log(0.25), std::log(0.75)};
  EXPECT_NEAR(Divergence(base, model), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-12);
  EXPECT_EQ(Divergence(base, base), 0);
}

TEST(PredictionQualityTest, PerplexityOfEqualChancesIsTheirNumber) {
  const std::vector<double> nll(10, std::log(7.0));
  EXPECT_NEAR(PerplexityOf(nll).value, 7, 1e-12);
  EXPECT_NEAR(PerplexityOf(nll).standard_error, 0, 1e-12);
  const std::vector<double> two = {0, 2};
  EXPECT_NEAR(PerplexityOf(two).value, std::exp(1.0), 1e-12);
  EXPECT_NEAR(PerplexityOf(two).standard_error, std::exp(1.0) * 1, 1e-12);  // deviation sqrt 2, over sqrt 2
}

TEST(PredictionQualityTest, QuantilesAreValuesThatOccur) {
  std::vector<double> values(1000);
  std::iota(values.rbegin(), values.rend(), 1.0);
  const Distribution d = DistributionOf(values);
  EXPECT_EQ(d.mean, 500.5);
  EXPECT_EQ(d.median, 500);
  EXPECT_EQ(d.p90, 900);
  EXPECT_EQ(d.p99, 990);
  EXPECT_EQ(d.p999, 999);
  EXPECT_EQ(d.largest, 1000);
  EXPECT_EQ(DistributionOf({3}).p99, 3);
  EXPECT_EQ(DistributionOf({}).largest, 0);
}

TEST(PredictionQualityTest, LargestIndexTakesTheFirstOfEquals) {
  EXPECT_EQ(LargestIndex(std::vector<float>{1, 3, 3, 2}), 1);
}

}  // namespace
}  // namespace tandem::engine
