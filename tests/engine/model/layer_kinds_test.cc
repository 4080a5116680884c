// Every kind of layer with eight-bit weights, where inputs are quantised row by row: the same bits however it is run,
// beside whatever else, and the memory that was announced. What the layers compute: architecture_test.cc.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/architecture_models.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using testing::ArchitectureModel;
using testing::ParseTinyModel;
using testing::StageRunner;
using testing::StageRunnerOptions;
using testing::TinyFile;
using testing::TinyModel;
using testing::TinyTensor;

constexpr int kTokens = 37;
constexpr int kVocab = 96;  // of all these models

std::vector<float> Values(const TinyTensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// Matrices whose rows can be cut into blocks become Q8_0.
TinyModel Quantised(TinyModel model) {
  const std::map<std::string, TinyTensor> tensors = model.tensors;
  for (const auto& [name, tensor] : tensors) {
    const bool vectors = absl::StrContains(name, "norm") || absl::EndsWith(name, ".bias");
    if (vectors || tensor.dims.size() < 2 || tensor.dims[0] % 32 != 0) continue;
    model.SetTensor(name, TensorType::kQ8_0, tensor.dims, Values(tensor));
  }
  return model;
}

std::vector<int32_t> SomeTokens(int count, int start) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (start + i * 37) % kVocab;
  return tokens;
}

std::unique_ptr<StageRunner> MakeRunner(const GgufFile& file, const StageRunnerOptions& options) {
  absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(file, options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  return runner.ok() ? *std::move(runner) : nullptr;
}

std::vector<float> Logits(const GgufFile& file, const StageRunnerOptions& options, int chunk) {
  const auto runner = MakeRunner(file, options);
  if (runner == nullptr) return {};
  const auto logits = runner->Logits(SomeTokens(kTokens, 5), chunk);
  EXPECT_TRUE(logits.ok()) << logits.status();
  return logits.ok() ? *logits : std::vector<float>();
}

class LayerKindsTest : public ::testing::TestWithParam<ArchitectureModel> {
 protected:
  LayerKindsTest() : tiny_(ParseTinyModel(Quantised(GetParam().make(1)))) {}
  const GgufFile& file() const { return *tiny_.file; }

 private:
  const TinyFile tiny_;
};

TEST_P(LayerKindsTest, TheSameBitsHoweverItIsRun) {
  const std::vector<float> expected = Logits(file(), {.isa = Isa::kScalar}, kTokens);
  ASSERT_FALSE(expected.empty());
  EXPECT_TRUE(Logits(file(), {.threads = 3}, kTokens) == expected) << "this machine's kernels, three threads";
  EXPECT_TRUE(Logits(file(), {.stages = 2}, 1) == expected) << "two stages, one token at a time";
  for (const Isa isa : SupportedIsas()) {
    EXPECT_TRUE(Logits(file(), {.isa = isa}, 7) == expected) << IsaName(isa) << ", chunks of 7";
  }
}

// The second half of a sequence in one step with another sequence, which comes first and chooses its own experts.
TEST_P(LayerKindsTest, BatchMatesChangeNoBit) {
  constexpr int kFirst = 20;
  const std::vector<int32_t> tokens = SomeTokens(kTokens, 5), others = SomeTokens(11, 50);
  const std::vector<float> expected = Logits(file(), {}, kFirst);
  const auto runner = MakeRunner(file(), {});
  ASSERT_NE(runner, nullptr);
  const std::vector<uint32_t> pages = runner->PagesFrom(0, kTokens), other_pages = runner->PagesFrom(8, 11);
  const std::span<const int32_t> all(tokens);
  StepResult result;
  Step alone;
  alone.slices.push_back({.position = 0, .tokens = all.first(kFirst), .pages = pages});
  ASSERT_TRUE(runner->Run(alone, &result).ok());
  Step mixed;
  mixed.slices.push_back({.position = 0, .tokens = others, .pages = other_pages});
  mixed.slices.push_back(
      {.position = kFirst, .tokens = all.subspan(kFirst), .pages = pages, .output = SliceOutput::kLogits});
  const absl::Status status = runner->Run(mixed, &result);
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<float> tail(expected.begin() + kFirst * kVocab, expected.end());
  EXPECT_TRUE(result.results.at(0).logits == tail);
}

TEST_P(LayerKindsTest, MemoryIsWhatWasEstimated) {
  const ModelSpec spec = *ReadModelSpec(file());
  const ModelCost cost = ComputeModelCost(spec, file());
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    const StageOptions options = {.first_layer = layer,
                                  .end_layer = layer + 1,
                                  .num_pages = 3,
                                  .max_step_tokens = 16,
                                  .threads = 1,
                                  .pin_threads = false};
    FileTensorSource source(file());
    const auto estimate = EstimateStageMemory(spec, file(), options);
    ASSERT_TRUE(estimate.ok()) << estimate.status();
    const auto stage = Stage::Load(spec, file(), source, options, nullptr, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    const StageMemory held = (*stage)->memory();
    EXPECT_EQ(held.weights, estimate->weights) << layer;
    EXPECT_EQ(held.kv, estimate->kv) << layer;
    EXPECT_EQ(held.kv, cost.kv_elements_per_token_layer * 3 * 32 * 2) << layer;
    EXPECT_EQ(held.scratch, estimate->scratch) << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(Dense, LayerKindsTest, ::testing::ValuesIn(testing::DenseArchitectureModels()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Experts, LayerKindsTest, ::testing::ValuesIn(testing::ExpertArchitectureModels()),
                         [](const auto& info) { return info.param.name; });

TinyModel ModelNamed(const std::string& name) {
  for (const ArchitectureModel& model : testing::ExpertArchitectureModels()) {
    if (model.name == name) return model.make(1);
  }
  ADD_FAILURE() << "no model " << name;
  return {};
}

// Files of 2023 hold each expert in a tensor of its own.
TEST(ExpertTensorsTest, OneTensorAnExpertIsTheSameModel) {
  const TinyModel merged = ModelNamed("qwen2moe");
  TinyModel apart = merged;
  for (const auto& [name, tensor] : merged.tensors) {
    const size_t end = name.find("_exps.weight");
    if (end == std::string::npos) continue;
    const std::vector<float> values = Values(tensor);
    const size_t size = tensor.dims[0] * tensor.dims[1];
    apart.tensors.erase(name);
    for (size_t i = 0; i < tensor.dims[2]; ++i) {
      apart.SetTensor(absl::StrCat(name.substr(0, end), ".", i, ".weight"), TensorType::kF32,
                      {tensor.dims[0], tensor.dims[1]}, {&values[i * size], &values[i * size] + size});
    }
  }
  EXPECT_TRUE(Logits(*ParseTinyModel(merged).file, {}, kTokens) == Logits(*ParseTinyModel(apart).file, {}, kTokens));
}

TEST(ExpertCostTest, ATokenReadsItsExpertsAndAChunkNearlyAll) {
  const TinyFile tiny = ParseTinyModel(ModelNamed("qwen2moe"));
  const ModelSpec spec = *ReadModelSpec(*tiny.file);
  const PartCost cost = ComputeModelCost(spec, *tiny.file).layers[1];
  // 8 experts of three matrices [32, 64], of which a token takes 3.
  EXPECT_EQ(cost.expert_bytes, 8u * 3 * 32 * 64 * 4);
  const double other = static_cast<double>(cost.weight_bytes - cost.expert_bytes);
  EXPECT_NEAR(cost.ReadBytes(1), other + 3 * 3 * 32 * 64 * 4, 1e-3);
  EXPECT_NEAR(cost.ReadBytes(2), other + 8 * 3 * 32 * 64 * 4 * (1 - 25.0 / 64), 1e-3);
  EXPECT_NEAR(cost.ReadBytes(512), static_cast<double>(cost.weight_bytes), 1.0);
  // Attention of 4 heads of 16, router, experts chosen, the shared one.
  EXPECT_EQ(cost.macs_per_token, 4u * 64 * 64 + 8 * 64 + 3 * 3 * 32 * 64 + 3 * 64 * 64);
}

}  // namespace
}  // namespace tandem::engine
