#include "engine/evaluation/base_logits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

class BaseLogitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "base_logits_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/base"; }
  void Save() {
    const auto writer = BaseLogitsWriter::Create(path(), 3, 77);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Append(std::vector<float>{1, 2, 3, 4, 5, 6}).ok());
    ASSERT_TRUE((*writer)->Append(std::vector<float>{7, 8, 9}).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  std::string OpenError(int32_t vocab, uint64_t identity) {
    const absl::Status status = BaseLogitsReader::Open(path(), vocab, identity).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }
  std::string folder_;
};

TEST_F(BaseLogitsTest, RowsComeBackAsTheyWere) {
  Save();
  const auto reader = BaseLogitsReader::Open(path(), 3, 77);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<float> row(3), two(6);
  ASSERT_TRUE((*reader)->Read(row).ok());
  EXPECT_EQ(row, (std::vector<float>{1, 2, 3}));
  ASSERT_TRUE((*reader)->Read(two).ok());
  EXPECT_EQ(two, (std::vector<float>{4, 5, 6, 7, 8, 9}));
  EXPECT_EQ((*reader)->Read(row).code(), absl::StatusCode::kDataLoss);
}

TEST_F(BaseLogitsTest, WhatDoesNotFitIsNamed) {
  EXPECT_EQ(BaseLogitsReader::Open(path(), 3, 77).status().code(), absl::StatusCode::kNotFound);
  Save();
  EXPECT_THAT(OpenError(4, 77), HasSubstr("a model with 3 tokens, this one has 4"));
  EXPECT_THAT(OpenError(3, 78), HasSubstr("another text"));
  ASSERT_EQ(truncate(path().c_str(), 32 + 8 * 4), 0);
  EXPECT_THAT(OpenError(3, 77), HasSubstr("cut short"));
  ASSERT_EQ(truncate(path().c_str(), 20), 0);
  EXPECT_THAT(OpenError(3, 77), HasSubstr("no file of base logits"));
}

TEST_F(BaseLogitsTest, AnUnfinishedFileIsRemoved) {
  { ASSERT_TRUE(BaseLogitsWriter::Create(path(), 3, 77).ok()); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_EQ(BaseLogitsWriter::Create(folder_ + "/no/base", 3, 77).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ScoringIdentityTest, DependsOnTextAndWindows) {
  const std::vector<int32_t> text = {1, 2, 3}, other = {1, 2, 4};
  const ScoringOptions options{.context = 8, .stride = 4, .bos = 1};
  EXPECT_EQ(ScoringIdentity(text, options), ScoringIdentity(text, options));
  EXPECT_NE(ScoringIdentity(text, options), ScoringIdentity(other, options));
  EXPECT_NE(ScoringIdentity(text, options), ScoringIdentity(text, {.context = 8, .stride = 5, .bos = 1}));
  EXPECT_NE(ScoringIdentity(text, options), ScoringIdentity(text, {.context = 8, .stride = 4, .bos = -1}));
}

}  // namespace
}  // namespace tandem::engine
