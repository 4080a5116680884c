#include "coordinator/placement/planner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "absl/strings/str_cat.h"
#include "coordinator/placement/cut_search.h"
#include "engine/cache/kv_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/plan_fixture.h"
#include "tests/support/tiny_adapter.h"
#include "tests/support/tiny_model.h"

namespace tandem::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> Cuts(const Plan& plan) {
  std::vector<int32_t> ends;
  for (const StagePlan& stage : plan.stages) ends.push_back(stage.end_layer);
  return ends;
}

TEST(PlannerTest, OneWorkerTakesEverything) {
  const auto plan = PlanPlacement(Input(10, {Device("a", 1, 100000)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Cuts(*plan), ElementsAre(10));
  EXPECT_EQ(plan->num_pages, 4 * 1024 / 32);
  // 10 layers and the head read once, two hops of ids.
  EXPECT_NEAR(1 / plan->decode_tokens_per_s, (10 * 100 + 50) * kMiB / 10e9 + 2 * 150e-6, 1e-9);
  // Arithmetic bounds prefill: 512 tokens of 10^8 multiply-adds a layer at 10^11 a second; the head draws one token.
  // One token's hide behind the reading of the weights.
  EXPECT_NEAR(512 / plan->prefill_tokens_per_s, (10 * 100 + 50) * kMiB / 10e9 + 10 * 511 * 1e8 / 100e9, 1e-9);
  EXPECT_EQ(plan->stages[0].memory.weights, (10 * 100 + 100) * kMiB);
  EXPECT_EQ(plan->stages[0].memory.kv, 10u * 4096 * 4096);
  EXPECT_EQ(plan->stages[0].memory.scratch, 20 * kMiB);
}

TEST(PlannerTest, EqualWorkersGetEqualShares) {
  const auto plan = PlanPlacement(Input(12, {Device("a", 1, 100000), Device("b", 1, 100000)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Cuts(*plan), ElementsAre(6, 12));
  EXPECT_EQ(plan->stages[0].name, "a");
}

TEST(PlannerTest, WorkerThatOnlySlowsDownIsLeftOut) {
  const auto plan = PlanPlacement(Input(12, {Device("slow", 0.1, 100000), Device("fast", 1, 100000)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 1u);
  EXPECT_EQ(plan->stages[0].name, "fast");
}

TEST(PlannerTest, MinStagesGivesEveryWorkerALayer) {
  PlanInput input = Input(12, {Device("slow", 0.1, 100000), Device("fast", 1, 100000)});
  input.min_stages = 2;
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);
  for (const StagePlan& stage : plan->stages) {
    EXPECT_EQ(stage.end_layer - stage.first_layer, stage.name == "slow" ? 1 : 11);
  }
}

TEST(PlannerTest, MinStagesIsGivenUpWhereLayersAreTooFew) {
  PlanInput input = Input(1, {Device("a", 1, 100000), Device("b", 1, 100000)});
  input.min_stages = 2;
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages.size(), 1u);
}

TEST(PlannerTest, MinStagesIsGivenUpWhereOnlyOneWorkerHasRoom) {
  PlanInput input = Input(4, {Device("a", 1, 100000), Device("tiny", 1, 50)});
  input.min_stages = 2;
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 1u);
  EXPECT_EQ(plan->stages[0].name, "a");
}

TEST(PlannerTest, MemoryForcesASplit) {
  // 12 layers of 104 MiB with the KV of one context; a has room for 8 of them, b for the rest.
  const auto plan = PlanPlacement(Input(12, {Device("a", 1, 1000), Device("b", 0.5, 1000)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);
  for (const StagePlan& stage : plan->stages) EXPECT_LE(stage.memory.total(), stage.memory_bytes);
}

TEST(PlannerTest, KvPagesShrinkToFitButNotBelowOneContext) {
  // Weights and scratch take 1120 MiB; a context takes 40 MiB.
  const auto two = PlanPlacement(Input(10, {Device("a", 1, 1120 + 80)}));
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->num_pages, 2 * 1024 / 32);
  const auto one = PlanPlacement(Input(10, {Device("a", 1, 1120 + 40)}));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->num_pages, 1024 / 32);
  EXPECT_EQ(PlanPlacement(Input(10, {Device("a", 1, 1120 + 39)})).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(PlannerTest, WhatDoesNotFitIsRefusedWithTheNumbers) {
  const auto plan = PlanPlacement(Input(40, {Device("a", 1, 1024), Device("b", 1, 2048)}));
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(plan.status().message());
  EXPECT_THAT(message, HasSubstr("needs 4.18 GiB (weights 4.00 GiB, KV pages of one context of 1024 tokens 160.0 MiB"));
  EXPECT_THAT(message, HasSubstr("offer 3.00 GiB: a 1.00 GiB, b 2.00 GiB"));
}

TEST(PlannerTest, ImpossibleMeasuresAreRefused) {
  EXPECT_EQ(PlanPlacement(Input(4, {})).status().code(), absl::StatusCode::kInvalidArgument);
  const auto plan = PlanPlacement(Input(4, {Device("a", 1, 1000), Device("broken", 0, 1000)}));
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("\"broken\""));
  PlanInput nan = Input(4, {Device("a", 1, 1000)});
  nan.devices[0].int8_macs = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(PlanPlacement(nan).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlannerTest, OrderChangesWhenTheHeadFitsOnlyElsewhere) {
  // b has no room for the head, which is with the last layers; so b must come first.
  PlanInput input = Input(12, {Device("a", 1, 1300), Device("b", 1, 700)});
  input.cost.head = {600 * kMiB, 1};
  input.max_sequences = 1;
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);
  EXPECT_EQ(plan->stages[0].name, "b");
}

TEST(PlannerTest, LayersAreCutForTheExpectedMixOfPromptsAndAnswers) {
  // The head is worth six layers to an answer's token, and next to nothing to a prompt.
  PlanInput input = Input(16, {Device("a", 1, 100000), Device("b", 1, 100000)});
  input.cost.head = {600 * kMiB, 600'000'000};
  const auto cut_at = [&](double prompt_share) {
    input.prompt_share = prompt_share;
    const auto plan = PlanPlacement(input);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->stages[0].end_layer;
  };
  EXPECT_EQ(cut_at(1), 8);
  EXPECT_EQ(cut_at(0), 11);
  EXPECT_EQ(cut_at(0.5), 10) << "8 answers' tokens a step read 10.5 ms a layer, 512 of a prompt compute 512 ms";
}

// Every cut of the layers over the devices in order, by recursion.
void TryAllCuts(const CostModel& costs, const std::vector<int32_t>& order, const CutLimits& limits, size_t worker,
                int32_t layer, int32_t used, double seconds, double* best) {
  if (layer == costs.layers()) {
    if (used >= limits.min_stages) *best = std::min(*best, seconds);
    return;
  }
  if (worker == order.size()) return;
  TryAllCuts(costs, order, limits, worker + 1, layer, used, seconds, best);
  for (int32_t end = layer + 1; end <= costs.layers(); ++end) {
    if (!costs.Fits(order[worker], layer, end, limits.num_pages)) continue;
    if (costs.BusySeconds(order[worker], layer, end) > limits.max_busy_s) continue;
    const double hop = layer == 0 ? 0 : costs.DecodeHopSeconds();
    TryAllCuts(costs, order, limits, worker + 1, end, used + 1,
               seconds + hop + costs.DecodeSeconds(order[worker], layer, end), best);
  }
}

TEST(PlannerTest, SearchFindsWhatTryingEveryCutFinds) {
  std::mt19937 random(1);
  const auto pick = [&random](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  int possible = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const int32_t layers = static_cast<int32_t>(pick(1, 8)), workers = static_cast<int32_t>(pick(1, 5));
    std::vector<PlanDevice> devices;
    std::vector<int32_t> order;
    for (int32_t i = 0; i < workers; ++i) {
      devices.push_back(Device("w", pick(0.1, 2), static_cast<uint64_t>(pick(100, 900))));
      order.push_back(i);
    }
    PlanInput input = Input(layers, devices);
    for (engine::PartCost& layer : input.cost.layers) layer.weight_bytes = static_cast<uint64_t>(pick(10, 200)) * kMiB;
    const CostModel costs(input);
    const CutLimits limits = {32, static_cast<int32_t>(pick(1, 3.9)), trial % 2 == 0 ? 0.0045 : pick(0.001, 0.011)};
    double best = std::numeric_limits<double>::infinity();
    TryAllCuts(costs, order, limits, 0, 0, 0, 0, &best);
    const auto cut = FindFastestCut(costs, order, limits);
    ASSERT_EQ(cut.has_value(), !std::isinf(best)) << "trial " << trial;
    if (!cut) continue;
    ++possible;
    EXPECT_NEAR(cut->decode_s, best, best * 1e-12);
    // The ranges are what the time was computed of.
    double seconds = 0;
    int32_t layer = 0;
    for (const CutRange& range : cut->ranges) {
      EXPECT_EQ(range.first_layer, layer);
      seconds += (layer == 0 ? 0 : costs.DecodeHopSeconds()) +
                 costs.DecodeSeconds(range.device, range.first_layer, range.end_layer);
      layer = range.end_layer;
    }
    EXPECT_EQ(layer, layers);
    EXPECT_NEAR(seconds, cut->decode_s, best * 1e-12);
  }
  EXPECT_GT(possible, 50);
}

// Over all orders and cuts: no placement decodes faster than the slack allows, and of those within it none has a less
// busy busiest stage.
TEST(PlannerTest, PlanIsAsGoodAsAnyPlacement) {
  std::mt19937 random(2);
  const auto pick = [&random](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<PlanDevice> devices;
    for (int i = 0; i < 3; ++i) devices.push_back(Device(std::string(1, 'a' + i), pick(0.5, 2), 2000));
    PlanInput input = Input(6, devices);
    input.max_sequences = 1;
    const CostModel costs(input);
    const auto plan = PlanPlacement(input);
    ASSERT_TRUE(plan.ok()) << plan.status();
    double busiest = 0;
    for (const StagePlan& stage : plan->stages) {
      busiest = std::max(busiest, costs.BusySeconds(stage.device, stage.first_layer, stage.end_layer));
    }
    const double decode_s = 1 / plan->decode_tokens_per_s - 2 * input.link.latency_s;

    double best = std::numeric_limits<double>::infinity();
    std::vector<int32_t> order = {0, 1, 2};
    const auto over_orders = [&](double max_busy_s) {
      double least = std::numeric_limits<double>::infinity();
      std::sort(order.begin(), order.end());
      do {
        TryAllCuts(costs, order, {plan->num_pages, 1, max_busy_s}, 0, 0, 0, 0, &least);
      } while (std::next_permutation(order.begin(), order.end()));
      return least;
    };
    best = over_orders(std::numeric_limits<double>::infinity());
    EXPECT_LE(decode_s, best * (1 + kDecodeSlack) * (1 + 1e-9));
    EXPECT_GT(over_orders(busiest * 0.999), best * (1 + kDecodeSlack)) << "a better balanced one was missed";
  }
}

TEST(PlannerTest, TableShowsLayersMemoryAndPrediction) {
  PlanInput input = Input(12, {Device("left", 1, 100000), Device("right", 1, 100000)});
  const auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string text = FormatPlan(*plan);
  EXPECT_THAT(text, HasSubstr("left    0-5"));
  EXPECT_THAT(text, HasSubstr("right   6-11"));
  EXPECT_THAT(text, HasSubstr("650.0 MiB"));
  EXPECT_THAT(text, HasSubstr("128 of 32 tokens, enough for 4.0 contexts of 1024 tokens"));
}

// Two equal workers whose slowest stage takes about 3 s a chunk of 512 tokens; its activations as F32 are 8 MiB.
TEST(PlannerTest, HopsAreNarrowedOnlyWhereTheLinkIsTheBottleneck) {
  PlanInput input = Input(12, {Device("a", 1, 100000), Device("b", 1, 100000)});
  input.activations = std::nullopt;
  input.min_stages = 2;
  const struct {
    double bytes_per_s;
    engine::TensorType expected;
  } cases[] = {{117e6, engine::TensorType::kF32},
               {3e6, engine::TensorType::kF32},
               {2e6, engine::TensorType::kF16},
               {1e6, engine::TensorType::kQ8_0},
               {1e3, engine::TensorType::kQ8_0}};
  for (const auto& c : cases) {
    input.link.bytes_per_s = c.bytes_per_s;
    const auto plan = PlanPlacement(input);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->stages.size(), 2u);
    const StagePlan& first = plan->stages[0];
    EXPECT_EQ(first.sends, c.expected) << c.bytes_per_s;
    EXPECT_NEAR(first.chunk_hop_s, HopSeconds(input, input.link, c.expected, 512), 1e-9);
    EXPECT_EQ(plan->stages[1].hop_s, 0);
  }
  input.hidden = 4080;  // no whole blocks
  EXPECT_EQ(PlanPlacement(input)->stages[0].sends, engine::TensorType::kF16);
  input.activations = engine::TensorType::kBF16;
  EXPECT_EQ(PlanPlacement(input)->stages[0].sends, engine::TensorType::kBF16) << "as told";
}

TEST(PlannerTest, MeasuredLinkCountsForItsHopAlone) {
  PlanInput input = Input(12, {Device("a", 1, 100000), Device("b", 1, 100000), Device("c", 1, 100000)});
  input.min_stages = 3;
  input.activations = std::nullopt;
  auto plan = PlanPlacement(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 3u);
  const double before = plan->decode_tokens_per_s;
  input.links[{plan->stages[1].name, plan->stages[2].name}] = {.latency_s = 0.01, .bytes_per_s = 2e6};
  PlanHops(input, &*plan);
  EXPECT_EQ(plan->stages[0].sends, engine::TensorType::kF32);
  EXPECT_EQ(plan->stages[1].sends, engine::TensorType::kQ8_0);
  EXPECT_NEAR(1 / plan->decode_tokens_per_s - 1 / before,
              0.01 + 4352 / 2e6 - HopSeconds(input, input.link, engine::TensorType::kF32, 1), 1e-9);
  EXPECT_THAT(FormatPlan(*plan), HasSubstr("q8_0      12.176"));
}

TEST(PlannerTest, ActivationChoicesByName) {
  EXPECT_THAT(ActivationChoiceNames(), ElementsAre("f32", "f16", "bf16", "q8_0", "auto"));
  EXPECT_EQ(*ParseActivationChoice("auto"), std::nullopt);
  EXPECT_EQ(*ParseActivationChoice("q8_0"), engine::TensorType::kQ8_0);
  EXPECT_EQ(ParseActivationChoice("int4").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlannerTest, InputFromAModelFile) {
  tandem::testing::TinyModelShape shape;
  shape.layers = 3;
  const auto tiny = tandem::testing::ParseTinyModel(shape);
  const auto spec = engine::ReadModelSpec(*tiny.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  PlanOptions options;
  options.min_stages = 2;
  const auto input = MakePlanInput(*tiny.file, *spec, options, {Device("a", 1, 100), Device("b", 1, 100)});
  ASSERT_TRUE(input.ok()) << input.status();
  EXPECT_EQ(input->context, shape.context) << "the model's, being below the default";
  EXPECT_EQ(input->kv_bytes_per_token_layer, 2u * shape.kv_heads * shape.head_dim * 2);
  const auto plan = PlanPlacement(*input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);

  // What was planned is what the engine says it will hold.
  for (const StagePlan& stage : plan->stages) {
    engine::StageOptions stage_options;
    stage_options.first_layer = stage.first_layer;
    stage_options.end_layer = stage.end_layer;
    stage_options.num_pages = plan->num_pages;
    const auto memory = engine::EstimateStageMemory(*spec, *tiny.file, stage_options);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(stage.memory.weights, memory->weights);
    EXPECT_EQ(stage.memory.kv, memory->kv);
    EXPECT_GE(stage.memory.scratch, memory->scratch);
  }

  options.context = shape.context + 1;
  EXPECT_EQ(MakePlanInput(*tiny.file, *spec, options, {}).status().code(), absl::StatusCode::kInvalidArgument);
  options.context = 0;
  for (const int32_t impossible : {0, -1, 2000}) {
    PlanOptions wrong;
    wrong.max_sequences = impossible;
    EXPECT_EQ(MakePlanInput(*tiny.file, *spec, wrong, {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  PlanOptions wrong;
  wrong.page_tokens = 0;
  EXPECT_EQ(MakePlanInput(*tiny.file, *spec, wrong, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlannerTest, KvTypesAreCountedAsTheEngineCountsThem) {
  tandem::testing::TinyModelShape shape;
  shape.head_dim = 32;
  const auto tiny = tandem::testing::ParseTinyModel(shape);
  const auto spec = engine::ReadModelSpec(*tiny.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const engine::KvFormat& format : engine::AllKvFormats()) {
    PlanOptions options;
    options.kv_type = format.type;
    const auto input = MakePlanInput(*tiny.file, *spec, options, {Device("a", 1, 100)});
    ASSERT_TRUE(input.ok()) << input.status();
    const engine::StageOptions stage = {.end_layer = spec->num_layers, .kv_type = format.type, .num_pages = 8};
    const auto memory = engine::EstimateStageMemory(*spec, *tiny.file, stage);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(input->kv_bytes_per_token_layer * spec->num_layers * 8 * stage.page_tokens, memory->kv) << format.name;
  }
}

TEST(PlannerTest, HeadsThatAreNotOfWholeBlocksAreRefusedBeforeAnythingIsLoaded) {
  tandem::testing::TinyModelShape shape;
  shape.head_dim = 48;
  const auto tiny = tandem::testing::ParseTinyModel(shape);
  const auto spec = engine::ReadModelSpec(*tiny.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  PlanOptions options;
  options.kv_type = engine::KvType::kQ8_0;
  const absl::Status status = MakePlanInput(*tiny.file, *spec, options, {Device("a", 1, 100)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("type q8_0 takes keys and values in blocks of 32 elements"));
}

TEST(PlannerTest, AdaptersAreCountedAsTheEngineCountsThem) {
  const tandem::testing::TinyModel model = tandem::testing::MakeTinyModel({.layers = 4});
  const auto tiny = tandem::testing::ParseTinyModel(model);
  const auto everywhere = tandem::testing::ParseTinyModel(tandem::testing::MakeTinyAdapter(model, {.rank = 17}));
  const auto in_one =
      tandem::testing::ParseTinyModel(tandem::testing::MakeTinyAdapter(model, {.parts = {"ffn_up"}, .layers = {2}}));
  const std::vector<engine::AdapterSource> adapters = {{everywhere.file.get(), nullptr}, {in_one.file.get(), nullptr}};
  const auto spec = engine::ReadModelSpec(*tiny.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto with = MakePlanInput(*tiny.file, *spec, {}, {Device("a", 1, 100)}, adapters);
  const auto without = MakePlanInput(*tiny.file, *spec, {}, {Device("a", 1, 100)});
  ASSERT_TRUE(with.ok() && without.ok()) << with.status();
  const CostModel cost(*with);
  for (const auto& [first, end] : std::vector<std::pair<int, int>>{{0, 4}, {0, 2}, {1, 3}, {2, 4}}) {
    engine::StageOptions options;
    options.first_layer = first;
    options.end_layer = end;
    options.num_pages = 8;
    const auto memory = engine::EstimateStageMemory(*spec, *tiny.file, options, adapters);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(cost.Memory(first, end, 8).weights, memory->weights);
    EXPECT_GT(memory->weights, CostModel(*without).Memory(first, end, 8).weights);
  }
}

TEST(PlannerTest, ManyLayersOverManyWorkersArePlannedAtOnce) {
  std::vector<PlanDevice> devices;
  for (int i = 0; i < kMaxOrderedDevices; ++i) devices.push_back(Device(absl::StrCat("w", i), 1 + 0.1 * i, 2500));
  const auto plan = PlanPlacement(Input(126, devices));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages.size(), devices.size());
}

}  // namespace
}  // namespace tandem::coordinator
