// The engine against another one: logits and greedy tokens of the reference models.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"

namespace tandem::engine {
namespace {

using testing::kMaxErrorF16Kv;
using testing::kMaxErrorF32;
using testing::kMaxErrorRatio;
using testing::kNoReference;
using testing::kReferencePromptTokens;
using testing::kReferenceTokens;
using testing::ReadReferenceFloats;
using testing::ReadReferenceIds;
using testing::ReferenceFolder;
using testing::RelativeError;
using testing::StageRunner;
using testing::StageRunnerOptions;

constexpr int kGreedyTokens = 40;

std::unique_ptr<GgufFile> OpenModel(const std::string& path) {
  absl::StatusOr<std::unique_ptr<GgufFile>> file = GgufFile::Open(absl::StrCat(ReferenceFolder(), "/", path));
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

std::unique_ptr<StageRunner> MakeRunner(const GgufFile& file, const StageRunnerOptions& options) {
  absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(file, options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  return runner.ok() ? *std::move(runner) : nullptr;
}

class ReferenceTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (ReferenceFolder().empty()) GTEST_SKIP() << kNoReference;
  }
};

// Relative error of the logits of a model against a file of logits.
double LogitsError(const std::string& model, const std::string& logits, KvType kv_type) {
  const auto file = OpenModel(model);
  if (file == nullptr) return -1;
  const auto runner = MakeRunner(*file, {.kv_type = kv_type});
  if (runner == nullptr) return -1;
  const absl::StatusOr<std::vector<float>> ours = runner->Logits(kReferenceTokens, kReferenceTokens.size());
  EXPECT_TRUE(ours.ok()) << ours.status();
  const double error = ours.ok() ? RelativeError(*ours, ReadReferenceFloats(logits)) : -1;
  ::testing::Test::RecordProperty("relative_error", absl::StrCat(error));
  return error;
}

using ArchitectureTest = ReferenceTest;

TEST_P(ArchitectureTest, LogitsAreCloseWithF32Cache) {
  const double error = LogitsError(absl::StrCat("arch/", GetParam(), ".gguf"),
                                   absl::StrCat("arch/", GetParam(), ".logits.f32"), KvType::kF32);
  EXPECT_GE(error, 0.0);
  EXPECT_LT(error, kMaxErrorF32);
}

TEST_P(ArchitectureTest, LogitsAreCloseWithF16Cache) {
  const double error = LogitsError(absl::StrCat("arch/", GetParam(), ".gguf"),
                                   absl::StrCat("arch/", GetParam(), ".logits.f32"), KvType::kF16);
  EXPECT_GT(error, 0.0);
  EXPECT_LT(error, kMaxErrorF16Kv);
}

TEST_P(ArchitectureTest, GreedyTokensAreEqual) {
  const auto file = OpenModel(absl::StrCat("arch/", GetParam(), ".gguf"));
  ASSERT_NE(file, nullptr);
  const std::vector<int32_t> expected = ReadReferenceIds(absl::StrCat("arch/", GetParam(), ".greedy"));
  ASSERT_EQ(expected.size(), kGreedyTokens);
  for (int stages : {1, 3}) {
    const auto runner = MakeRunner(*file, {.stages = stages});
    ASSERT_NE(runner, nullptr);
    const auto ids = runner->Greedy(std::span(kReferenceTokens).first(kReferencePromptTokens), kGreedyTokens);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, expected) << stages << " stages";
  }
}

// The stages and chunks that a sequence goes through, and the kernels, change no bit.
TEST_P(ArchitectureTest, EveryCutGivesTheSameBits) {
  const auto file = OpenModel(absl::StrCat("arch/", GetParam(), ".gguf"));
  ASSERT_NE(file, nullptr);
  std::vector<float> whole;
  const auto expect_same = [&](const StageRunnerOptions& options, size_t chunk) {
    const auto runner = MakeRunner(*file, options);
    ASSERT_NE(runner, nullptr);
    const auto logits = runner->Logits(kReferenceTokens, static_cast<int>(chunk));
    ASSERT_TRUE(logits.ok()) << logits.status();
    if (whole.empty()) whole = *logits;
    EXPECT_TRUE(whole == *logits) << options.stages << " stages, chunks of " << chunk;
  };
  const auto runner = MakeRunner(*file, {});
  ASSERT_NE(runner, nullptr);
  const int layers = runner->spec().num_layers;
  expect_same({}, kReferenceTokens.size());
  expect_same({.stages = layers}, kReferenceTokens.size());  // cut at every layer boundary
  expect_same({.stages = 2, .threads = 2}, 7);
  expect_same({.isa = Isa::kScalar}, 1);
}

std::string TestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !absl::ascii_isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, ArchitectureTest,
                         ::testing::Values("chatglm", "deepseek2", "gemma2", "gemma3", "glm4", "gpt-oss", "llama",
                                           "llama-mha-linear-rope", "llama-yarn", "llama3-ropefreqs-tied", "mixtral",
                                           "phi3", "qwen2", "qwen3", "qwen3moe"),
                         TestName);

using QuantisedTest = ReferenceTest;

TEST_P(QuantisedTest, ErrorIsNoLargerThanTheReferenceEngines) {
  const double error = LogitsError(absl::StrCat("quant/", GetParam(), ".gguf"),
                                   absl::StrCat("quant/", GetParam(), ".exact.logits.f32"), KvType::kF32);
  const double reference = testing::ReadReferenceNumber("quant/llamacpp_relative_error.json", GetParam());
  EXPECT_GE(error, 0.0);
  RecordProperty("reference_engine_error", absl::StrCat(reference));
  // Where the reference engine computes without eight-bit activations its error is zero; ours is then F32's.
  EXPECT_LE(error, std::max(kMaxErrorRatio * reference, kMaxErrorF32));
}

INSTANTIATE_TEST_SUITE_P(FileTypes, QuantisedTest,
                         ::testing::Values("f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_s",
                                           "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q4_k_m-moe", "q5_k_s", "q5_k_m",
                                           "q6_k", "iq4_nl", "iq4_xs", "iq3_s", "iq3_m"),
                         TestName);

class StoriesTest : public ::testing::TestWithParam<int> {};

TEST_P(StoriesTest, GreedyTokensOfEveryPromptAreEqual) {
  if (ReferenceFolder().empty()) GTEST_SKIP() << kNoReference;
  const auto file = OpenModel("models/stories260k-f32.gguf");
  ASSERT_NE(file, nullptr);
  const auto runner = MakeRunner(*file, {.stages = GetParam()});
  ASSERT_NE(runner, nullptr);
  ASSERT_EQ(runner->stages(), GetParam());
  const auto stories = testing::ReadReferenceStories("models/stories260k.json");
  ASSERT_EQ(stories.size(), 5u);
  for (const testing::ReferenceStory& story : stories) {
    const auto ids = runner->Greedy(story.prompt_ids, static_cast<int>(story.greedy_ids.size()));
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, story.greedy_ids) << story.prompt;
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, StoriesTest, ::testing::Values(1, 2, 3, 5));

}  // namespace
}  // namespace tandem::engine
