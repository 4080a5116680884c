// Choice of experts: each way of gating against weights computed by hand, groups, ties, the order of rows.

#include "engine/model/expert_router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/model/architecture.h"

namespace tandem::engine {
namespace {

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

// The choice of one token with these router outputs.
Choice Choose(const ExpertSpec& spec, std::vector<float> scores, const std::vector<float>& selection_bias = {}) {
  ScratchShape shape{.tokens = 1, .num_pages = 1};
  shape.expert_count = spec.count;
  shape.expert_groups = spec.groups;
  shape.expert_rows = spec.used;
  Scratch scratch(shape);
  std::copy(scores.begin(), scores.end(), scratch.expert_scores);
  LayerWeights weights;
  weights.selection_bias = selection_bias;
  ExpertRouter router(spec, scratch);
  router.Choose(weights, 0);
  return {{scratch.expert_ids, scratch.expert_ids + spec.used},
          {scratch.expert_weights, scratch.expert_weights + spec.used}};
}

float Sigmoid(double x) { return static_cast<float>(1 / (1 + std::exp(-x))); }

void ExpectNear(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6) << i;
}

TEST(ExpertRouterTest, SoftmaxOverAllAndNormalised) {
  const std::vector<float> scores = {0.5f, 2.0f, -1.0f, 1.0f};
  double sum = 0;
  for (const float s : scores) sum += std::exp(s);
  const ExpertSpec plain = {.count = 4, .used = 2, .normalise = false, .scale = 3.0f};
  Choice choice = Choose(plain, scores);
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{1, 3}));
  ExpectNear(choice.weights, {3 * std::exp(2.0) / sum, 3 * std::exp(1.0) / sum});

  choice = Choose({.count = 4, .used = 2}, scores);
  ExpectNear(choice.weights, {Sigmoid(1), Sigmoid(-1)});
}

TEST(ExpertRouterTest, SoftmaxOfTheChosen) {
  const Choice choice = Choose({.count = 4, .used = 2, .gating = Gating::kSoftmaxOfChosen}, {3.0f, 2.0f, -1.0f, 1.0f});
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{0, 1}));
  ExpectNear(choice.weights, {Sigmoid(1), Sigmoid(-1)});
}

TEST(ExpertRouterTest, TheSelectionBiasChoosesButDoesNotWeigh) {
  const ExpertSpec spec = {.count = 3, .used = 2, .gating = Gating::kSigmoid, .normalise = true, .scale = 2.5f};
  const Choice choice = Choose(spec, {1.0f, 0.0f, -2.0f}, {0.0f, 0.0f, 5.0f});
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{0, 2}));
  const double a = Sigmoid(1), b = Sigmoid(-2);
  ExpectNear(choice.weights, {2.5 * a / (a + b), 2.5 * b / (a + b)});
}

TEST(ExpertRouterTest, EqualScoresGoToTheLowerNumber) {
  EXPECT_EQ(Choose({.count = 5, .used = 3}, {1, 2, 1, 1, 1}).ids, (std::vector<int32_t>{0, 1, 2}));
}

TEST(ExpertRouterTest, GroupsCountByTheirTwoBestOrTheirBest) {
  // Group 0 has the best expert, group 1 the two best together.
  const std::vector<float> scores = {3.0f, -3.0f, -3.0f, 2.0f, 2.0f, -3.0f, 0.0f, 0.0f, 0.0f};
  ExpertSpec spec = {.count = 9, .used = 2, .gating = Gating::kSigmoid, .groups = 3, .groups_used = 1};
  EXPECT_EQ(Choose(spec, scores).ids, (std::vector<int32_t>{3, 4}));
  spec.gating = Gating::kSoftmax;
  EXPECT_EQ(Choose(spec, scores).ids, (std::vector<int32_t>{0, 1}));
  spec.groups_used = 2;
  EXPECT_EQ(Choose(spec, scores).ids, (std::vector<int32_t>{0, 3}));
}

TEST(ExpertRouterTest, RowsAreSortedByExpertAndThenByToken) {
  const ExpertSpec spec = {.count = 4, .used = 2};
  ScratchShape shape{.tokens = 3, .num_pages = 1};
  shape.expert_count = 4;
  shape.expert_groups = 1;
  shape.expert_rows = 6;
  Scratch scratch(shape);
  const std::vector<int32_t> ids = {1, 3, 0, 1, 1, 3};
  std::copy(ids.begin(), ids.end(), scratch.expert_ids);
  ExpertRouter router(spec, scratch);
  router.Group(3);
  ASSERT_EQ(router.active(), 3);
  EXPECT_EQ(std::vector<int32_t>(scratch.active_experts, scratch.active_experts + 3), (std::vector<int32_t>{0, 1, 3}));
  EXPECT_EQ(std::vector<int32_t>(scratch.expert_begin, scratch.expert_begin + 5),
            (std::vector<int32_t>{0, 1, 4, 4, 6}));
  EXPECT_EQ(std::vector<int32_t>(scratch.row_tokens, scratch.row_tokens + 6), (std::vector<int32_t>{1, 0, 1, 2, 0, 2}));
  EXPECT_EQ(std::vector<int32_t>(scratch.expert_rows, scratch.expert_rows + 6),
            (std::vector<int32_t>{1, 4, 0, 2, 3, 5}));
}

TEST(ArchitectureTest, TheNearestNameIsFound) {
  EXPECT_EQ(NearestArchitecture("qwen4"), "qwen2");
  EXPECT_EQ(NearestArchitecture("deepseek"), "deepseek2");
  EXPECT_EQ(NearestArchitecture("gemma3n"), "gemma3");
  EXPECT_EQ(NearestArchitecture("starcoder"), "starcoder2");
  EXPECT_EQ(FindArchitecture("llama")->name, "llama");
  EXPECT_EQ(FindArchitecture("Llama"), nullptr);
}

}  // namespace
}  // namespace tandem::engine
