// The oracle against another engine: logits of the reference models. What it says of the architectures that have no
// reference model rests on the same pieces; of the small models of those, it must at least read every tensor.

#include "tests/support/oracle/oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/support/architecture_models.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {
namespace {

// The reference data's bound for an F32 engine.
constexpr double kMaxError = 1e-4;

class OracleTest : public ::testing::TestWithParam<std::string> {};

TEST_P(OracleTest, LogitsAreThoseOfTheReference) {
  if (ReferenceFolder().empty()) GTEST_SKIP() << kNoReference;
  const auto file = engine::GgufFile::Open(absl::StrCat(ReferenceFolder(), "/arch/", GetParam(), ".gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  const oracle::Rows logits = oracle::Logits(**file, kReferenceTokens);
  const std::vector<float> ours(logits.values.begin(), logits.values.end());
  const double error = RelativeError(ours, ReadReferenceFloats(absl::StrCat("arch/", GetParam(), ".logits.f32")));
  RecordProperty("relative_error", absl::StrCat(error));
  EXPECT_LT(error, kMaxError);
}

std::string TestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !absl::ascii_isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Reference, OracleTest,
                         ::testing::Values("chatglm", "deepseek2", "gemma2", "gemma3", "glm4", "gpt-oss", "llama",
                                           "llama-mha-linear-rope", "llama-yarn", "llama3-ropefreqs-tied", "mixtral",
                                           "phi3", "qwen2", "qwen3", "qwen3moe"),
                         TestName);

std::vector<double> LogitsOf(const TinyModel& model) {
  constexpr int32_t kTokens[] = {1, 45, 7, 90, 33};
  return oracle::Logits(*ParseTinyModel(model).file, kTokens).values;
}

void Disturb(TinyTensor* tensor) {
  for (size_t i = 0; i < tensor->data.size() / sizeof(float); ++i) {
    float value;
    std::memcpy(&value, &tensor->data[i * sizeof(float)], sizeof(value));
    value += 0.4f * static_cast<float>(static_cast<int>(i % 3) - 1);
    std::memcpy(&tensor->data[i * sizeof(float)], &value, sizeof(value));
  }
}

// Files hold them, the definition does not use them: further-token prediction, and the factors for the other length.
bool IsUnused(const std::string& model, const std::string& tensor) {
  if (model.rfind("glm4moe", 0) == 0) return tensor.rfind("blk.3.", 0) == 0;
  return tensor == (model == "phi3_beyond_original_context" ? "rope_factors_short.weight" : "rope_factors_long.weight");
}

// Of models with many layers the first and the sixth (which in gemma3 sees everything) stand for the others.
bool IsRepeated(const TinyModel& model, const std::string& tensor) {
  int layer = 0;
  return model.tensors.count("blk.6.attn_q.weight") > 0 && std::sscanf(tensor.c_str(), "blk.%d.", &layer) == 1 &&
         layer != 0 && layer != 5;
}

class ArchitectureModelTest : public ::testing::TestWithParam<ArchitectureModel> {};

TEST_P(ArchitectureModelTest, EveryTensorCounts) {
  const TinyModel model = GetParam().make(GetParam().seed);
  const std::vector<double> logits = LogitsOf(model);
  const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
  EXPECT_GT(*high - *low, 0.3);  // Command R's logit_scale makes them small
  EXPECT_LT(*high - *low, 300.0);
  for (const auto& [name, tensor] : model.tensors) {
    if (IsRepeated(model, name)) continue;
    TinyModel other = model;
    Disturb(&other.tensors[name]);
    EXPECT_EQ(LogitsOf(other) == logits, IsUnused(GetParam().name, name)) << name;
  }
}

std::vector<ArchitectureModel> AllModels() {
  std::vector<ArchitectureModel> models = DenseArchitectureModels();
  for (const ArchitectureModel& model : ExpertArchitectureModels()) models.push_back(model);
  return models;
}

INSTANTIATE_TEST_SUITE_P(Models, ArchitectureModelTest, ::testing::ValuesIn(AllModels()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tandem::testing
