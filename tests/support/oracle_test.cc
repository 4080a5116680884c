// The oracle against another engine: logits of the reference models. What it says of the architectures that have no
// reference model rests on the same pieces.

#include "tests/support/oracle/oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/support/reference.h"

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

}  // namespace
}  // namespace tandem::testing
