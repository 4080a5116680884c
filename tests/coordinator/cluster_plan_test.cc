#include "coordinator/placement/cluster_plan.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/plan_fixture.h"

namespace tandem::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Names(const Plan& plan) {
  std::vector<std::string> names;
  for (const StagePlan& stage : plan.stages) names.push_back(stage.name);
  return names;
}

std::vector<PlanDevice> Equal(int count, uint64_t memory_mib = 100000) {
  std::vector<PlanDevice> devices;
  for (int i = 0; i < count; ++i) devices.push_back(Device(absl::StrCat("w", i), 1, memory_mib));
  return devices;
}

TEST(ClusterPlanTest, WorkersThatCutEvenlyAreOnePipeline) {
  const auto plan = PlanCluster(Input(24, Equal(4)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines.size(), 1u);
  EXPECT_EQ(plan->pipelines[0].stages.size(), 4u);
  EXPECT_THAT(plan->unused, IsEmpty());
}

// More workers than layers would be idle in one pipeline.
TEST(ClusterPlanTest, MoreWorkersThanLayersServeInSeveral) {
  const auto plan = PlanCluster(Input(4, Equal(8)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines.size(), 2u);
  for (const Plan& pipeline : plan->pipelines) EXPECT_EQ(pipeline.stages.size(), 4u);
  EXPECT_THAT(plan->unused, IsEmpty());
}

// A head as large as four layers is a stage of its own, which all others wait for.
TEST(ClusterPlanTest, ALargeHeadIsWorthMorePipelines) {
  PlanInput input = Input(12, Equal(8));
  input.cost.head = {400 * kMiB, 400'000'000};
  input.prompt_share = 0;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT(plan->pipelines.size(), 1u);
  input.max_pipelines = 1;
  const auto one = PlanCluster(input);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->pipelines.size(), 1u);
  double sum = 0;
  for (const Plan& pipeline : plan->pipelines) sum += pipeline.tokens_per_s;
  EXPECT_GT(sum, 1.5 * one->pipelines[0].tokens_per_s);
}

// Each hop would cost a third of a token's time.
TEST(ClusterPlanTest, SlowHopsAreWorthMorePipelines) {
  PlanInput input = Input(12, Equal(4));
  input.link.latency_s = 0.05;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines.size(), 4u);
  std::set<std::string> names;
  std::set<int32_t> devices;
  for (const Plan& pipeline : plan->pipelines) {
    names.insert(pipeline.stages[0].name);
    devices.insert(pipeline.stages[0].device);
  }
  EXPECT_EQ(names.size(), 4u);
  EXPECT_EQ(devices, (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(ClusterPlanTest, EachPipelineHoldsTheModelOrThereIsOne) {
  PlanInput input = Input(12, Equal(4, /*memory_mib=*/800));
  input.link.latency_s = 0.05;
  const auto two = PlanCluster(input);
  ASSERT_TRUE(two.ok()) << two.status();
  ASSERT_EQ(two->pipelines.size(), 2u);
  for (const Plan& pipeline : two->pipelines) EXPECT_EQ(pipeline.stages.size(), 2u);
  input.devices = Equal(4, /*memory_mib=*/400);
  const auto one = PlanCluster(input);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->pipelines.size(), 1u);
  input.devices = Equal(4, /*memory_mib=*/200);
  EXPECT_EQ(PlanCluster(input).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ClusterPlanTest, UnlikeWorkersMakePipelinesOfEqualSpeed) {
  PlanInput input = Input(12, {Device("fast0", 2, 100000), Device("slow0", 1, 100000), Device("slow1", 1, 100000),
                               Device("fast1", 2, 100000)});
  input.link.latency_s = 0.02;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_GT(plan->pipelines.size(), 1u);
  double slowest = 1e9, fastest = 0;
  for (const Plan& pipeline : plan->pipelines) {
    slowest = std::min(slowest, pipeline.decode_tokens_per_s);
    fastest = std::max(fastest, pipeline.decode_tokens_per_s);
  }
  EXPECT_GE(slowest, kSlowestPipeline * fastest);
}

TEST(ClusterPlanTest, OneFastWorkerDoesNotIdleTheOthers) {
  std::vector<PlanDevice> devices = Equal(10);
  devices.push_back(Device("fast", 3, 100000));
  PlanInput input = Input(12, devices);
  input.link.latency_s = 0.05;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->pipelines.size(), 11u);
  EXPECT_THAT(plan->unused, IsEmpty());
}

TEST(ClusterPlanTest, WorkersThatAreFarTooSlowServeNobody) {
  const auto plan = PlanCluster(Input(12, {Device("slow", 0.1, 100000), Device("fast", 1, 100000)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines.size(), 1u);
  EXPECT_THAT(Names(plan->pipelines[0]), ElementsAre("fast"));
  EXPECT_THAT(plan->unused, ElementsAre("slow"));
  EXPECT_THAT(FormatClusterPlan(*plan), HasSubstr("without layers: slow"));
}

TEST(ClusterPlanTest, MinStagesHoldsForEachPipeline) {
  PlanInput input = Input(12, Equal(5));
  input.link.latency_s = 0.05;
  input.min_stages = 2;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pipelines.size(), 2u);
  for (const Plan& pipeline : plan->pipelines) EXPECT_GE(pipeline.stages.size(), 2u);
}

TEST(ClusterPlanTest, FreeWorkersServeBesideWhatServes) {
  PlanInput input = Input(12, Equal(4));
  input.link.latency_s = 0.05;
  PlanInput two = input;
  two.devices.resize(2);
  const auto serving = PlanCluster(two);
  ASSERT_TRUE(serving.ok()) << serving.status();
  const std::vector<Plan> more = PlanMore(input, serving->pipelines);
  ASSERT_EQ(more.size(), 2u);
  EXPECT_THAT(Names(more[0]), ElementsAre("w2"));
  EXPECT_EQ(more[0].stages[0].device, 2);
  input.max_pipelines = 3;
  EXPECT_EQ(PlanMore(input, serving->pipelines).size(), 1u);
  input.max_pipelines = 2;
  EXPECT_THAT(PlanMore(input, serving->pipelines), IsEmpty());
  input.max_pipelines = 0;
  input.devices[2] = input.devices[3] = Device("slow", 0.1, 100000);
  EXPECT_THAT(PlanMore(input, serving->pipelines), IsEmpty());
}

TEST(ClusterPlanTest, WorthMovingOnlyForAClearGain) {
  Plan now, next;
  now.decode_tokens_per_s = 10;
  now.prefill_tokens_per_s = 100;
  now.tokens_per_s = 50;
  next = now;
  EXPECT_FALSE(IsWorthMoving({now}, {next}));
  next.decode_tokens_per_s = 10.9;
  EXPECT_FALSE(IsWorthMoving({now}, {next}));
  next.decode_tokens_per_s = 11.1;
  EXPECT_TRUE(IsWorthMoving({now}, {next}));
  next.decode_tokens_per_s = 9.5;
  next.prefill_tokens_per_s = 190;
  EXPECT_TRUE(IsWorthMoving({now}, {next}));
  EXPECT_FALSE(IsWorthMoving({now, now}, {next})) << "two pipelines serve twice as many requests";
  next.decode_tokens_per_s = 8;
  EXPECT_FALSE(IsWorthMoving({now}, {next}));
  EXPECT_TRUE(IsWorthMoving({now}, {now, now}));
  next.decode_tokens_per_s = 30;
  EXPECT_TRUE(IsWorthMoving({now}, {next}));
  EXPECT_FALSE(IsWorthMoving({now, now}, {next})) << "one client is better off, many are not";
}

TEST(ClusterPlanTest, TablesOfAllPipelines) {
  PlanInput input = Input(12, Equal(2));
  input.link.latency_s = 0.05;
  const auto plan = PlanCluster(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string text = FormatClusterPlan(*plan);
  EXPECT_THAT(text, HasSubstr("pipeline 2 of 2\nstage  worker"));
  EXPECT_THAT(text, HasSubstr("all pipelines: "));
  EXPECT_THAT(text, Not(HasSubstr("without layers")));
}

TEST(ClusterPlanTest, AThousandWorkersArePlannedAtOnce) {
  const auto plan = PlanCluster(Input(32, Equal(1000)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GE(plan->pipelines.size(), 30u);
  EXPECT_THAT(FormatClusterPlan(*plan), HasSubstr(absl::StrCat("and ", plan->pipelines.size() - 8, " more\n")));
}

}  // namespace
}  // namespace tandem::coordinator
