// The simulated pipeline against times computed by hand, and what must hold for any load.
#include "coordinator/simulation/pipeline_simulation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "coordinator/simulation/planned_pipeline.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::coordinator {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::HasSubstr;

struct Record : SimulationObserver {
  void OnStep(const SimulatedStep& step) override {
    EXPECT_GE(step.planned_s, last_planned_s[step.pipeline]);
    last_planned_s[step.pipeline] = step.planned_s;
    wall_s = std::max(wall_s, step.planned_s + step.round_trip_s);
    compute_s.resize(step.stages.size());
    for (size_t i = 0; i < compute_s.size(); ++i) compute_s[i] += step.stages[i].compute_s;
    ++steps;
    prefill_tokens += step.prefill_tokens;
    decode_tokens += step.decode_tokens;
  }
  void OnAnswer(SimulatedAnswer answer) override { answers.push_back(std::move(answer)); }

  double utilisation(size_t stage) const { return compute_s[stage] / wall_s; }

  std::vector<SimulatedAnswer> answers;
  std::vector<double> compute_s;
  double wall_s = 0;
  std::map<int32_t, double> last_planned_s;  // by pipeline
  int64_t steps = 0, prefill_tokens = 0, decode_tokens = 0;
};

// Stages that take `step_s` and `token_s` more a token; links without delay.
SimulationInput Equal(int32_t stages, double step_s, double token_s = 0) {
  SimulationInput input;
  input.pipelines.resize(1);
  input.pipelines[0].scheduler.num_stages = stages;
  input.pipelines[0].scheduler.max_in_flight = std::min(stages + 1, 64);
  input.pipelines[0].scheduler.num_pages = 4096;
  input.pipelines[0].scheduler.context = 4096;
  input.pipelines[0].stages.assign(stages, [=](const StepWork& work) { return step_s + token_s * work.tokens; });
  input.pipelines[0].links.resize(stages + 1);
  return input;
}

Record Simulated(const SimulationInput& input) {
  Record record;
  const absl::Status status = SimulatePipelines(input, &record);
  EXPECT_TRUE(status.ok()) << status;
  return record;
}

void ExpectInvalid(const SimulationInput& input, const std::string& expected) {
  Record record;
  const absl::Status status = SimulatePipelines(input, &record);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
}

TEST(SimulationTest, OneStageAndOneClientMakeATokenAStep) {
  SimulationInput input = Equal(1, 0.010);
  input.clients = 1;
  input.requests.assign(2, {.prompt_tokens = 5, .answer_tokens = 10});
  const Record record = Simulated(input);
  ASSERT_EQ(record.answers.size(), 2u);
  EXPECT_NEAR(record.answers[0].first_token_s, 0.010, 1e-9);
  EXPECT_NEAR(record.answers[0].end_s, 0.100, 1e-9);
  EXPECT_THAT(record.answers[0].gaps_s, Each(DoubleNear(0.010, 1e-9)));
  EXPECT_EQ(record.answers[0].gaps_s.size(), 9u);
  EXPECT_NEAR(record.answers[1].due_s, 0.100, 1e-9) << "when the first one has ended";
  EXPECT_NEAR(record.answers[1].end_s, 0.200, 1e-9);
  EXPECT_NEAR(record.utilisation(0), 1, 1e-9);
  EXPECT_EQ(record.prefill_tokens, 10);
  EXPECT_EQ(record.decode_tokens, 18);
}

TEST(SimulationTest, TwoStagesServeTwoClientsTwiceAsFast) {
  SimulationInput input = Equal(2, 0.010);
  input.clients = 1;
  input.requests.assign(1, {.prompt_tokens = 5, .answer_tokens = 200});
  const Record one = Simulated(input);
  EXPECT_NEAR(one.wall_s, 200 * 0.020, 1e-6);
  EXPECT_NEAR(one.utilisation(0), 0.5, 1e-6);
  input.clients = 2;
  input.requests.assign(2, {.prompt_tokens = 5, .answer_tokens = 200});
  const Record two = Simulated(input);
  // Both prompts go in one step; from then on each client has a step of its own, a stage apart.
  EXPECT_NEAR(two.wall_s, 200 * 0.020 + 0.010, 1e-6);
  EXPECT_GE(2 * one.wall_s / two.wall_s, 1.99);
  for (int stage : {0, 1}) EXPECT_GE(two.utilisation(stage), 0.99);
}

TEST(SimulationTest, ATokenPassesEveryLinkOnce) {
  SimulationInput input = Equal(2, 0.010);
  input.pipelines[0].links = {{.latency_s = 0.001}, {.latency_s = 0.002}, {.latency_s = 0.004}};
  input.clients = 1;
  input.requests.assign(1, {.prompt_tokens = 5, .answer_tokens = 20});
  EXPECT_THAT(Simulated(input).answers[0].gaps_s, Each(DoubleNear(0.027, 1e-9)));
  // 8 tokens of prompt take 8 ms between the stages, a token that is decoded 1 ms.
  input.pipelines[0].links[1] = {.latency_s = 0.002, .bytes_per_s = 1e6, .bytes_per_token = 1000};
  input.requests[0].prompt_tokens = 8;
  const Record record = Simulated(input);
  EXPECT_NEAR(record.answers[0].first_token_s, 0.027 + 0.008, 1e-9);
  EXPECT_THAT(record.answers[0].gaps_s, Each(DoubleNear(0.028, 1e-9)));
}

TEST(SimulationTest, FramesFollowEachOtherOnALink) {
  // 20 ms a token on the link between stages of 1 ms: it is what the prompt's chunks of 64 tokens wait for.
  SimulationInput input = Equal(2, 0.001);
  input.pipelines[0].links[1] = {.latency_s = 0.5, .bytes_per_s = 1e5, .bytes_per_token = 2000};
  input.clients = 1;
  input.requests.assign(1, {.prompt_tokens = 640, .answer_tokens = 1});
  input.pipelines[0].scheduler.max_in_flight = 64;
  EXPECT_NEAR(Simulated(input).answers[0].end_s, 0.001 + 640 * 0.020 + 0.5 + 0.001, 1e-9);
}

TEST(SimulationTest, WhatAStepAsks) {
  SimulationInput input = Equal(1, 0.001);
  input.pipelines[0].scheduler.max_step_tokens = 64;
  std::vector<StepWork> works;
  input.pipelines[0].stages[0] = [&works](const StepWork& work) {
    works.push_back(work);
    return 0.001;
  };
  input.clients = 1;
  input.requests.assign(1, {.prompt_tokens = 67, .answer_tokens = 2});
  Simulated(input);
  ASSERT_EQ(works.size(), 3u);
  const auto is = [&](size_t i, int32_t tokens, int32_t outputs, int64_t keys, int64_t pairs) {
    EXPECT_EQ(works[i].tokens, tokens);
    EXPECT_EQ(works[i].outputs, outputs);
    EXPECT_EQ(works[i].keys, keys);
    EXPECT_EQ(works[i].pairs, pairs);
  };
  is(0, 64, 0, 64, 64 * 65 / 2);
  is(1, 3, 1, 67, 65 + 66 + 67);
  is(2, 1, 1, 68, 68);
}

TEST(SimulationTest, OpenLoopComesAtItsTimes) {
  SimulationInput input = Equal(1, 0.010);
  input.requests = {{.at_s = 0.5, .prompt_tokens = 1, .answer_tokens = 1},
                    {.at_s = 0.505, .prompt_tokens = 1, .answer_tokens = 1},
                    {.at_s = 2, .prompt_tokens = 1, .answer_tokens = 1}};
  const Record record = Simulated(input);
  ASSERT_EQ(record.answers.size(), 3u);
  EXPECT_NEAR(record.answers[0].end_s, 0.510, 1e-9);
  EXPECT_NEAR(record.answers[1].end_s, 0.520, 1e-9) << "waits for the step before";
  EXPECT_NEAR(record.answers[2].end_s, 2.010, 1e-9);
}

TEST(SimulationTest, ASharedPrefixIsComputedOnce) {
  SimulationInput input = Equal(1, 0.001, 0.001);
  input.clients = 1;
  input.shared_prefix = 1000;
  input.requests.assign(2, {.prompt_tokens = 1030, .answer_tokens = 1});
  const Record record = Simulated(input);
  EXPECT_EQ(record.answers[0].cached_tokens, 0);
  EXPECT_EQ(record.answers[1].cached_tokens, 1000) << "31 pages, and 8 tokens of a copy of the next";
  EXPECT_NEAR(record.answers[0].end_s, 1.030 + 0.003, 1e-9) << "chunks of 512, 512 and 6";
  EXPECT_NEAR(record.answers[1].end_s - record.answers[1].due_s, 0.030 + 0.001, 1e-9);
}

// A load of all sizes with so few pages that sequences are preempted.
SimulationInput Mixed(uint64_t seed) {
  SimulationInput input = Equal(3, 0.002, 0.0005);
  input.pipelines[0].stages[1] = [](const StepWork& work) { return 0.003 + 1e-7 * static_cast<double>(work.pairs); };
  input.pipelines[0].links.assign(4, {.latency_s = 0.0002, .bytes_per_s = 1e8, .bytes_per_token = 8192});
  input.pipelines[0].scheduler.num_pages = 150;
  input.seed = seed;
  for (int32_t i = 0; i < 300; ++i) {
    input.requests.push_back({.at_s = i * 0.05, .prompt_tokens = 1 + i * 37 % 700, .answer_tokens = 1 + i * 13 % 90});
  }
  return input;
}

TEST(SimulationTest, EveryRequestEndsWithItsTokens) {
  for (const int32_t clients : {0, 1, 7, 100}) {
    SimulationInput input = Mixed(1);
    input.clients = clients;
    const Record record = Simulated(input);
    ASSERT_EQ(record.answers.size(), input.requests.size());
    int64_t drawn = 0;
    for (const SimulatedAnswer& answer : record.answers) {
      EXPECT_TRUE(answer.status.ok()) << answer.status;
      ASSERT_EQ(answer.gaps_s.size() + 1, static_cast<size_t>(answer.request.answer_tokens));
      drawn += answer.request.answer_tokens;
      const double between = std::accumulate(answer.gaps_s.begin(), answer.gaps_s.end(), 0.0);
      EXPECT_NEAR(answer.first_token_s + between, answer.end_s, 1e-6);
      EXPECT_GT(answer.first_token_s, answer.due_s);
    }
    EXPECT_GE(record.prefill_tokens + record.decode_tokens, drawn);
    for (size_t stage = 0; stage < 3; ++stage) EXPECT_LE(record.utilisation(stage), 1 + 1e-9);
  }
}

TEST(SimulationTest, TheSameSeedGivesTheSameTimes) {
  const Record a = Simulated(Mixed(1)), b = Simulated(Mixed(1));
  ASSERT_EQ(a.answers.size(), b.answers.size());
  EXPECT_EQ(a.steps, b.steps);
  for (size_t i = 0; i < a.answers.size(); ++i) {
    EXPECT_EQ(a.answers[i].end_s, b.answers[i].end_s);
    EXPECT_EQ(a.answers[i].gaps_s, b.answers[i].gaps_s);
  }
}

TEST(SimulationTest, NobodyStarvesInAnOverload) {
  SimulationInput input = Equal(2, 0.005, 0.0005);
  input.max_waiting = 1000;
  input.pipelines[0].scheduler.num_pages = 300;
  // Half a millisecond for each of 60,000 tokens: 30 seconds of work, that come within 20.
  for (int32_t i = 0; i < 500; ++i) {
    input.requests.push_back({.at_s = i * 0.04, .prompt_tokens = i % 50 == 7 ? 3000 : 40, .answer_tokens = 20});
  }
  const Record record = Simulated(input);
  double longest_s = 0;
  for (const SimulatedAnswer& answer : record.answers) {
    EXPECT_TRUE(answer.status.ok()) << answer.status;
    longest_s = std::max(longest_s, answer.first_token_s - answer.due_s);
  }
  EXPECT_GE(record.wall_s, 30);
  EXPECT_GE(longest_s, 5) << "no overload";
  // Whoever has waited for the scheduler's patience goes first; those before it may have waited as long.
  EXPECT_LE(longest_s, 2 * 20.0);
}

TEST(SimulationTest, AFullQueueRefuses) {
  SimulationInput input = Equal(1, 0.010);
  input.pipelines[0].scheduler.num_pages = 2;  // one sequence
  input.pipelines[0].scheduler.context = 64;
  input.max_waiting = 2;
  input.clients = 5;
  input.requests.assign(5, {.prompt_tokens = 40, .answer_tokens = 10});
  const Record record = Simulated(input);
  ASSERT_EQ(record.answers.size(), 5u);
  int refused = 0;
  for (const SimulatedAnswer& answer : record.answers) {
    refused += answer.status.code() == absl::StatusCode::kResourceExhausted ? 1 : 0;
  }
  EXPECT_EQ(refused, 3) << "all five came at once";
}

TEST(SimulationTest, AThousandStages) {
  SimulationInput input = Equal(1000, 0.001);
  input.pipelines[0].links.assign(1001, {.latency_s = 0.0001, .bytes_per_s = 1e8, .bytes_per_token = 100});
  input.max_waiting = 1000;
  input.clients = 200;
  input.requests.assign(1000, {.prompt_tokens = 16, .answer_tokens = 4});
  const Record record = Simulated(input);
  EXPECT_EQ(record.answers.size(), 1000u);
  for (const SimulatedAnswer& answer : record.answers) EXPECT_TRUE(answer.status.ok()) << answer.status;
  // A token on its own takes 1,000 steps of 1 ms and 1,001 hops of 0.1 ms.
  EXPECT_GE(record.answers[0].gaps_s[0], 1.1);
  EXPECT_LE(record.utilisation(0), 1);
}

TEST(SimulationTest, ImpossibleInputIsRefused) {
  SimulationInput input = Equal(2, 0.001);
  input.requests = {{.at_s = 1}, {.at_s = 0.5}};
  ExpectInvalid(input, "times ascend");
  input.requests = {{.prompt_tokens = 0}};
  ExpectInvalid(input, "a request of 0 and 1 tokens");
  input.requests = {{}};
  input.pipelines[0].links[1].bytes_per_s = 0;
  ExpectInvalid(input, "0 bytes/s");
  input.pipelines[0].links.pop_back();
  ExpectInvalid(input, "2 costs and 2 links");
  input = Equal(1, std::numeric_limits<double>::quiet_NaN());
  input.requests = {{}};
  ExpectInvalid(input, "stage 0 takes nan s");
  input.pipelines[0].tokens_per_s = 0;
  ExpectInvalid(input, "a pipeline of 0 tokens a second");
  input.pipelines.clear();
  ExpectInvalid(input, "no pipeline");
}

// --- planned pipelines

PlanInput TwoWorkers() {
  PlanInput input;
  input.cost.layers.assign(12, {.weight_bytes = 100'000'000, .macs_per_token = 100'000'000});
  input.cost.head = {.weight_bytes = 50'000'000, .macs_per_token = 50'000'000};
  input.hidden = 4096;
  input.kv_bytes_per_token_layer = 4096;
  for (const char* name : {"a", "b"}) input.devices.push_back({name, uint64_t{1} << 40, 10e9, 1e12});
  input.min_stages = 2;
  input.context = 4096;
  return input;
}

TEST(PlannedPipelineTest, AStepCostsWeightsAttentionAndHead) {
  const PlanInput input = TwoWorkers();
  const CostModel costs(input);
  const StepWork decode = {.tokens = 1, .outputs = 1, .keys = 1000, .pairs = 1000};
  // 10 ms to read a layer, and 4 MB of keys and values.
  EXPECT_NEAR(costs.StepSeconds(0, 0, 2, decode), 2 * (0.010 + 4096e3 / 10e9), 1e-9);
  EXPECT_NEAR(costs.StepSeconds(0, 11, 12, decode), 0.010 + 4096e3 / 10e9 + 0.005, 1e-9);
  // A chunk: the weights are read, and all products but those of one token take their time; those of attention are 4
  // times as slow as int8, two for each element of a query.
  const StepWork chunk = {.tokens = 200, .outputs = 0, .keys = 200, .pairs = 20100};
  EXPECT_NEAR(costs.StepSeconds(0, 11, 12, chunk), 0.010 + 0.0199 + 20100 * 4096 * 2 * 4 / 1e12, 1e-9);
}

TEST(PlannedPipelineTest, OneClientIsServedAsPlanned) {
  PlanInput input = TwoWorkers();
  input.kv_bytes_per_token_layer = 0;  // the plan leaves attention out
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);
  const CostModel costs(input);
  SimulationInput simulated = Equal(2, 0);
  simulated.pipelines[0].stages = StageCostsOf(costs, *plan);
  simulated.pipelines[0].links = LinksOf(input, *plan);
  simulated.clients = 1;
  simulated.requests.assign(1, {.prompt_tokens = 8, .answer_tokens = 20});
  const Record record = Simulated(simulated);
  for (const double gap_s : record.answers[0].gaps_s) EXPECT_NEAR(gap_s * plan->decode_tokens_per_s, 1, 0.001);
}

TEST(SimulationTest, PipelinesBesideEachOtherServeTwiceAsMany) {
  SimulationInput one = Equal(1, 0.010, 0.001);
  one.requests.assign(64, {.prompt_tokens = 20, .answer_tokens = 10});
  one.clients = 16;
  SimulationInput two = one;
  two.pipelines.push_back(two.pipelines[0]);
  const Record of_one = Simulated(one), of_two = Simulated(two);
  ASSERT_EQ(of_two.answers.size(), 64u);
  const auto end = [](const Record& record) {
    double last = 0;
    for (const SimulatedAnswer& answer : record.answers) last = std::max(last, answer.end_s);
    return last;
  };
  EXPECT_LT(end(of_two), 0.65 * end(of_one));
}

TEST(SimulationTest, RequestsGoWhereTheirPrefixIs) {
  SimulationInput input = Equal(1, 0.010, 0.001);
  input.pipelines.push_back(input.pipelines[0]);
  input.requests.assign(20, {.prompt_tokens = 1000, .answer_tokens = 2});
  input.shared_prefix = 960;
  input.clients = 1;
  const Record record = Simulated(input);
  int computed = 0;
  for (const SimulatedAnswer& answer : record.answers) computed += answer.cached_tokens < 900 ? 1 : 0;
  EXPECT_EQ(computed, 1);
}

}  // namespace
}  // namespace tandem::coordinator
