// The engine against the oracle (tests/support/oracle): every architecture that has no reference model, in every
// variant that takes another path, and the same bits however the layers are split.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/architecture_models.h"
#include "tests/support/oracle/oracle.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"

namespace tandem::engine {
namespace {

using testing::ArchitectureModel;
using testing::MaxErrorOf;
using testing::StageRunner;
using testing::StageRunnerOptions;

constexpr int kTokens = 40;  // past the models' windows of 12 tokens and two pages of 16

class ArchitectureTest : public ::testing::TestWithParam<ArchitectureModel> {
 protected:
  ArchitectureTest() : tiny_(testing::ParseTinyModel(GetParam().make(GetParam().seed))) {
    for (int i = 0; i < kTokens; ++i) tokens_.push_back((5 + i * 37) % 96);
  }

  std::vector<float> Logits(const StageRunnerOptions& options, int chunk = kTokens) {
    const absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(*tiny_.file, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return {};
    const absl::StatusOr<std::vector<float>> logits = (*runner)->Logits(tokens_, chunk);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? *logits : std::vector<float>();
  }

  double ErrorAgainstOracle(KvType kv_type) {
    const testing::oracle::Rows expected = testing::oracle::Logits(*tiny_.file, tokens_);
    const std::vector<float> exact(expected.values.begin(), expected.values.end());
    const double error = testing::RelativeError(Logits({.kv_type = kv_type}), exact);
    RecordProperty("relative_error", absl::StrCat(error));
    return error;
  }

  const testing::TinyFile tiny_;
  std::vector<int32_t> tokens_;
};

TEST_P(ArchitectureTest, LogitsAreTheOracles) {
  EXPECT_LT(ErrorAgainstOracle(KvType::kF32), MaxErrorOf(GetParam(), testing::kMaxErrorF32));
}

TEST_P(ArchitectureTest, LogitsAreCloseWithF16Cache) {
  EXPECT_LT(ErrorAgainstOracle(KvType::kF16), MaxErrorOf(GetParam(), testing::kMaxErrorF16Kv));
}

// One stage a layer cuts at every boundary at once.
TEST_P(ArchitectureTest, AnySplitGivesTheSameBits) {
  const std::vector<float> expected = Logits({});
  ASSERT_FALSE(expected.empty());
  const absl::StatusOr<ModelSpec> spec = ReadModelSpec(*tiny_.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (int stages : {2, spec->num_layers}) {
    EXPECT_TRUE(Logits({.stages = stages}, 13) == expected) << stages << " stages";
  }
}

INSTANTIATE_TEST_SUITE_P(Dense, ArchitectureTest, ::testing::ValuesIn(testing::DenseArchitectureModels()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Experts, ArchitectureTest, ::testing::ValuesIn(testing::ExpertArchitectureModels()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tandem::engine
