// Products with adapters: against the merged model restated in double, and the same bits however a step is put
// together.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/model/adapter.h"
#include "engine/model/model_layout.h"
#include "tests/support/architecture_models.h"
#include "tests/support/oracle/oracle.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_adapter.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyAdapter;
using testing::MergeAdapter;
using testing::ParseTinyModel;
using testing::StageRunner;
using testing::StageRunnerOptions;
using testing::TinyFile;
using testing::TinyModel;

constexpr int kTokens = 39;  // three pages of 16, the last one not full

std::vector<int32_t> SomeTokens(int count, int start) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (start + i * 37) % 313;
  return tokens;
}

// A model and adapters of different ranks, types and reach.
class AdapterRunTest : public ::testing::Test {
 protected:
  AdapterRunTest()
      : model_(testing::MakeTinyModel({.layers = 3, .vocab_size = 313, .seed = 5})),
        adapters_{MakeTinyAdapter(model_, {.rank = 4, .alpha = 8.0f, .seed = 1}),
                  MakeTinyAdapter(model_, {.rank = 19, .alpha = 0.0f, .type = TensorType::kF16, .seed = 2}),
                  MakeTinyAdapter(model_, {.rank = 1, .alpha = 3.0f, .seed = 3, .parts = {"attn_v"}, .layers = {1}})},
        file_(ParseTinyModel(model_)) {
    for (const TinyModel& adapter : adapters_) files_.push_back(ParseTinyModel(adapter));
  }

  std::unique_ptr<StageRunner> Runner(StageRunnerOptions options) {
    for (const TinyFile& file : files_) options.adapters.push_back(file.file.get());
    absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(*file_.file, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }
  std::vector<float> Logits(const StageRunnerOptions& options, std::vector<AdapterUse> uses, int chunk = kTokens) {
    const auto logits = Runner(options)->Logits(SomeTokens(kTokens, 3), chunk, uses);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? *logits : std::vector<float>();
  }

  const TinyModel model_;
  const std::vector<TinyModel> adapters_;
  const TinyFile file_;
  std::vector<TinyFile> files_;
};

TEST_F(AdapterRunTest, EqualsTheMergedModelInDouble) {
  const std::vector<float> plain = Logits({.isa = Isa::kScalar}, {});
  const std::vector<std::vector<AdapterUse>> cases = {
      {{0, 1.0f}}, {{1, 0.5f}}, {{2, 2.0f}}, {{0, -1.0f}}, {{0, 1.0f}, {2, 1.5f}, {1, 0.25f}}};
  for (const std::vector<AdapterUse>& uses : cases) {
    TinyModel merged = model_;
    for (const AdapterUse& use : uses) {
      merged = MergeAdapter(std::move(merged), adapters_[use.adapter], static_cast<double>(use.scale));
    }
    const TinyFile merged_file = ParseTinyModel(merged);
    const auto expected = testing::oracle::Logits(*merged_file.file, SomeTokens(kTokens, 3));
    const std::vector<float> rows(expected.values.begin(), expected.values.end());
    const std::vector<float> ours = Logits({.isa = Isa::kScalar}, uses);
    EXPECT_LT(testing::RelativeError(ours, rows), 1e-5) << uses.size() << " from " << uses[0].adapter;
    EXPECT_GT(testing::RelativeError(plain, rows), 1e-2) << "the adapter hardly changes anything";
  }
}

TEST_F(AdapterRunTest, NoBitDependsOnSplitChunksThreadsOrInstructionSet) {
  const std::vector<AdapterUse> uses = {{1, 0.5f}, {0, 1.0f}};
  const std::vector<float> expected = Logits({.isa = Isa::kScalar}, uses);
  for (int stages : {2, 3}) EXPECT_TRUE(Logits({.stages = stages}, uses) == expected) << stages << " stages";
  for (int chunk : {1, 7, 16}) EXPECT_TRUE(Logits({}, uses, chunk) == expected) << "chunks of " << chunk;
  for (int threads : {2, 3}) EXPECT_TRUE(Logits({.threads = threads}, uses) == expected) << threads << " threads";
  for (const Isa isa : SupportedIsas()) {
    EXPECT_TRUE(Logits({.isa = isa}, uses) == expected) << IsaName(isa);
  }
}

TEST_F(AdapterRunTest, BatchMatesWithOtherAdaptersChangeNothing) {
  const std::vector<std::vector<AdapterUse>> uses = {{}, {{0, 1.0f}}, {{1, 0.5f}, {0, -0.5f}},
                                                     {}, {{2, 2.0f}}, {{0, 0.25f}}};
  auto runner = Runner({.threads = 2, .max_step_tokens = 128});
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<uint32_t>> pages;
  Step step;
  for (int i = 0; i < 6; ++i) {
    tokens.push_back(SomeTokens(9 + 3 * i, 11 * i));
    pages.push_back(runner->PagesFrom(static_cast<uint32_t>(4 * i), 9 + 3 * i));
  }
  for (int i = 0; i < 6; ++i) {
    step.slices.push_back(
        {.tokens = tokens[i], .pages = pages[i], .output = SliceOutput::kLogits, .adapters = uses[i]});
  }
  StepResult together;
  ASSERT_TRUE(runner->Run(step, &together).ok());
  ASSERT_EQ(together.results.size(), 6u);
  for (int i = 0; i < 6; ++i) {
    const auto alone = runner->Logits(tokens[i], 64, uses[i]);
    ASSERT_TRUE(alone.ok()) << alone.status();
    EXPECT_TRUE(together.results[i].logits == *alone) << "slice " << i;
  }
}

TEST_F(AdapterRunTest, QuantisedModelTakesAdaptersToo) {
  const TinyModel model =
      testing::MakeTinyModel({.layers = 2, .ffn = 96, .vocab_size = 313, .type = TensorType::kQ8_0, .seed = 5});
  const TinyFile file = ParseTinyModel(model), adapter = ParseTinyModel(MakeTinyAdapter(model, {}));
  std::vector<std::vector<float>> results;
  for (const StageRunnerOptions& options :
       {StageRunnerOptions{.isa = Isa::kScalar, .adapters = {adapter.file.get()}},
        StageRunnerOptions{.stages = 2, .threads = 2, .adapters = {adapter.file.get()}}}) {
    const auto runner = StageRunner::Create(*file.file, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    const std::vector<AdapterUse> uses = {{0, 1.0f}};
    const auto with = (*runner)->Logits(SomeTokens(kTokens, 3), 16, uses);
    const auto without = (*runner)->Logits(SomeTokens(kTokens, 3), 16);
    ASSERT_TRUE(with.ok() && without.ok());
    EXPECT_GT(testing::RelativeError(*without, *with), 1e-2);
    results.push_back(*with);
  }
  EXPECT_TRUE(results[0] == results[1]);
}

TEST_F(AdapterRunTest, MemoryIsCountedBeforeAndAfter) {
  auto with = Runner({.stages = 3});
  const auto without = StageRunner::Create(*file_.file, {.stages = 3});
  ASSERT_TRUE(without.ok());
  std::vector<AdapterSource> sources;
  for (const TinyFile& file : files_) sources.push_back({file.file.get(), nullptr});
  for (int i = 0; i < 3; ++i) {
    const StageMemory held = with->stage(i).memory();
    const auto estimate = EstimateStageMemory(with->spec(), *file_.file, with->stage(i).options(), sources);
    ASSERT_TRUE(estimate.ok());
    EXPECT_EQ(held.weights, estimate->weights) << i;
    EXPECT_EQ(held.scratch, estimate->scratch) << i;
    EXPECT_GT(held.weights, (*without)->stage(i).memory().weights) << i;
  }
}

TEST_F(AdapterRunTest, UsesOutOfRangeAreRefused) {
  auto runner = Runner({});
  const auto refused = [&](std::vector<AdapterUse> uses, const std::string& message) {
    const auto logits = runner->Logits(SomeTokens(3, 3), 3, uses);
    EXPECT_TRUE(absl::IsInvalidArgument(logits.status())) << logits.status();
    EXPECT_THAT(std::string(logits.status().message()), HasSubstr(message));
  };
  refused({{3, 1.0f}}, "adapter 3, the stage has 3");
  refused({{-1, 1.0f}}, "adapter -1");
  refused({{0, std::numeric_limits<float>::quiet_NaN()}}, "nan");
  refused({{0, 1e6f}}, "1e+06");
  refused(std::vector<AdapterUse>(kMaxSliceAdapters + 1, {0, 0.1f}), "9 adapters");
}

// Every matrix that can be adapted, in every architecture: each is multiplied somewhere, and nowhere without its
// adapter.
class AdaptedArchitectureTest : public ::testing::TestWithParam<testing::ArchitectureModel> {};

TEST_P(AdaptedArchitectureTest, EqualsTheMergedModelInDouble) {
  const TinyModel model = GetParam().make(1);
  const TinyFile file = ParseTinyModel(model);
  const auto spec = ReadModelSpec(*file.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  testing::TinyAdapterShape shape{.rank = 3, .alpha = 1.5f};
  for (int32_t layer = 0; layer < spec->num_layers; ++layer) {
    for (const LayerTensor& tensor : LayerTensors(*spec, *file.file, layer)) {
      if (IsAdaptable(tensor)) shape.tensors.push_back(tensor.name);
    }
  }
  ASSERT_GE(shape.tensors.size(), 2u * spec->num_layers);
  const TinyModel adapter = MakeTinyAdapter(model, shape);
  const TinyFile adapter_file = ParseTinyModel(adapter), merged = ParseTinyModel(MergeAdapter(model, adapter, 1.0));
  std::vector<int32_t> tokens(kTokens);
  for (int i = 0; i < kTokens; ++i) tokens[i] = (5 + i * 37) % spec->vocab;
  const auto expected = testing::oracle::Logits(*merged.file, tokens);
  const std::vector<float> rows(expected.values.begin(), expected.values.end());
  const std::vector<AdapterUse> uses = {{0, 1.0f}};
  std::vector<float> first;
  for (int stages : {1, 2}) {
    const auto runner = StageRunner::Create(*file.file, {.stages = stages, .adapters = {adapter_file.file.get()}});
    ASSERT_TRUE(runner.ok()) << runner.status();
    const auto ours = (*runner)->Logits(tokens, stages == 1 ? kTokens : 7, uses);
    const auto plain = (*runner)->Logits(tokens, kTokens);
    ASSERT_TRUE(ours.ok() && plain.ok()) << ours.status();
    // Gemma's GELU is rounded to a half, which makes a last bit of difference 2^-11 (architecture_test.cc).
    EXPECT_LT(testing::RelativeError(*ours, rows), GetParam().name.starts_with("gemma") ? 4e-3 : 1e-4);
    EXPECT_GT(testing::RelativeError(*plain, rows), 1e-2) << "the adapter hardly changes anything";
    if (first.empty()) first = *ours;
    EXPECT_TRUE(*ours == first) << stages << " stages";
  }
}

const auto kVariantName = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Dense, AdaptedArchitectureTest, ::testing::ValuesIn(testing::DenseArchitectureModels()),
                         kVariantName);
INSTANTIATE_TEST_SUITE_P(Experts, AdaptedArchitectureTest, ::testing::ValuesIn(testing::ExpertArchitectureModels()),
                         kVariantName);

}  // namespace
}  // namespace tandem::engine
