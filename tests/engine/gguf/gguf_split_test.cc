// Models cut into parts: GgufFile::Open of any part, GgufFile::Join, and parts that do not belong together.
#include "engine/gguf/gguf_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/gguf/gguf_file.h"
#include "engine/gguf/gguf_writer.h"

namespace tandem::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kTensors = 7;

// One part as a test may spoil it before it is written.
struct Part {
  uint32_t no = 0, count = 0;
  int32_t tensors_count = kTensors;
  std::string architecture;  // "" : not there
  std::vector<int> tensors;  // tensor i is "t<i>": i + 1 rows of 40 floats i
};

std::vector<Part> GoodParts() {
  return {{.no = 0, .count = 3, .architecture = "llama", .tensors = {0, 1, 2}},
          {.no = 1, .count = 3, .tensors = {3}},
          {.no = 2, .count = 3, .tensors = {4, 5, 6}}};
}

std::vector<std::byte> Serialize(const Part& part) {
  GgufWriter writer;
  if (!part.architecture.empty()) writer.SetString("general.architecture", part.architecture);
  if (part.no == 0) writer.SetStrings("words", std::vector<std::string>{"a", "b"});
  writer.SetUint32("split.no", part.no);
  writer.SetUint32("split.count", part.count);
  writer.SetInt32("split.tensors.count", part.tensors_count);
  std::vector<std::vector<float>> data;
  for (int i : part.tensors) data.emplace_back((i + 1) * 40, static_cast<float>(i));
  for (size_t k = 0; k < data.size(); ++k) {
    const uint64_t dims[] = {40, data[k].size() / 40};
    EXPECT_TRUE(writer
                    .AddTensor(absl::StrCat("t", part.tensors[k]), TensorType::kF32, dims,
                               std::as_bytes(std::span<const float>(data[k])))
                    .ok());
  }
  return writer.Serialize();
}

class GgufSplitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "gguf_split_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string PathOf(int part) const {
    return SplitName{.prefix = folder_ + "/model", .part = 1, .count = 3}.PathOf(part);
  }
  void Save(const std::string& path, const std::vector<std::byte>& bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void SaveAll(const std::vector<Part>& parts) {
    for (size_t i = 0; i < parts.size(); ++i) Save(PathOf(i + 1), Serialize(parts[i]));
  }
  // The error of opening the first of `parts`.
  absl::Status OpenError(const std::vector<Part>& parts) {
    SaveAll(parts);
    return GgufFile::Open(PathOf(1)).status();
  }

  std::string folder_;
};

TEST_F(GgufSplitTest, OpeningAnyPartGivesTheWhole) {
  SaveAll(GoodParts());
  std::vector<std::string> fingerprints;
  for (int part = 1; part <= 3; ++part) {
    const auto file = GgufFile::Open(PathOf(part));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(*(*file)->GetString("general.architecture"), "llama");
    EXPECT_EQ((*(*file)->GetStrings("words"))[1], "b");
    ASSERT_EQ((*file)->tensors().size(), size_t{kTensors});
    EXPECT_TRUE((*file)->has_data());
    uint64_t end = (*file)->header().size();
    for (int i = 0; i < kTensors; ++i) {
      const GgufTensor* tensor = (*file)->FindTensor(absl::StrCat("t", i));
      ASSERT_NE(tensor, nullptr);
      EXPECT_EQ(tensor->offset, end);
      end += (tensor->bytes + 31) / 32 * 32;
      const auto data = (*file)->ReadAll(*tensor);
      ASSERT_TRUE(data.ok()) << data.status();
      const std::vector<float> expected((i + 1) * 40, static_cast<float>(i));
      EXPECT_TRUE(std::ranges::equal(*data, std::as_bytes(std::span(expected)))) << i;
    }
    EXPECT_EQ((*file)->file_bytes(), end);
    fingerprints.push_back(*(*file)->Fingerprint());
  }
  EXPECT_EQ(fingerprints[1], fingerprints[0]);
  EXPECT_EQ(fingerprints[2], fingerprints[0]);
}

// What a worker gets from the coordinator.
TEST_F(GgufSplitTest, TheHeaderAloneDescribesTheWhole) {
  SaveAll(GoodParts());
  const auto file = GgufFile::Open(PathOf(2));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto header = (*file)->header();
  const auto alone = GgufFile::ParseHeader({header.begin(), header.end()}, (*file)->file_bytes());
  ASSERT_TRUE(alone.ok()) << alone.status();
  ASSERT_EQ((*alone)->tensors().size(), size_t{kTensors});
  EXPECT_EQ((*alone)->FindTensor("t6")->bytes, 7u * 40 * sizeof(float));
}

TEST_F(GgufSplitTest, TheFingerprintCoversEveryPart) {
  std::vector<Part> parts = GoodParts();
  SaveAll(parts);
  const std::string before = *(*GgufFile::Open(PathOf(1)))->Fingerprint();
  std::vector<std::byte> last = Serialize(parts[2]);
  last[last.size() - 7 * 40 * sizeof(float)] ^= std::byte{1};  // first byte of t6
  Save(PathOf(3), last);
  EXPECT_NE(*(*GgufFile::Open(PathOf(1)))->Fingerprint(), before);
}

TEST_F(GgufSplitTest, MissingPartReturnsNotFoundWithItsName) {
  SaveAll(GoodParts());
  std::filesystem::remove(PathOf(2));
  const absl::Status status = GgufFile::Open(PathOf(3)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("model-00002-of-00003.gguf"), HasSubstr("one folder")));
}

TEST_F(GgufSplitTest, APartUnderAnotherPartsNameIsRefused) {
  std::vector<Part> parts = GoodParts();
  parts[1] = parts[2];
  const absl::Status status = OpenError(parts);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("part 2 of 3"), HasSubstr("split.no is 2, expected 1")));
}

TEST_F(GgufSplitTest, PartsOfOtherModelsAreRefused) {
  const auto expect = [&](auto spoil, const std::string& text) {
    std::vector<Part> parts = GoodParts();
    spoil(parts);
    const absl::Status status = OpenError(parts);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("model-00001-of-00003.gguf"), HasSubstr(text)));
  };
  expect([](auto& p) { p[1].count = 4; }, "part 2 of 3: split.count is 4, expected 3");
  expect([](auto& p) { p[2].tensors_count = 8; }, "part 3 of 3: split.tensors.count is 8, expected 7");
  expect([](auto& p) { p[2].architecture = "qwen2"; }, "general.architecture is \"qwen2\", but \"llama\"");
  expect([](auto& p) { p[2].tensors[1] = 1; }, "part 3 of 3: tensor t1 is in part 1 already");
  expect([](auto& p) { p[2].tensors.pop_back(); }, "the 3 parts have 6 tensors, but split.tensors.count is 7");
  expect(
      [](auto& p) {
        for (Part& part : p) part.tensors_count = -1;
      },
      "split.tensors.count");
}

TEST_F(GgufSplitTest, ADamagedPartIsNamed) {
  SaveAll(GoodParts());
  ASSERT_EQ(truncate(PathOf(3).c_str(), 400), 0);
  const absl::Status status = GgufFile::Open(PathOf(1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model-00003-of-00003.gguf"));
}

TEST_F(GgufSplitTest, ARenamedPartSaysThatTheOthersCannotBeFound) {
  for (const char* name : {"/renamed.gguf", "/model-00001-of-00004.gguf"}) {
    Save(folder_ + name, Serialize(GoodParts()[0]));
    const absl::Status status = GgufFile::Open(folder_ + name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("-00001-of-00003.gguf"));
  }
}

TEST_F(GgufSplitTest, TooManyPartsAreRefusedBeforeAnyIsOpened) {
  Part part = GoodParts()[0];
  part.count = 70000;
  Save(folder_ + "/model-00001-of-70000.gguf", Serialize(part));
  EXPECT_THAT(std::string(GgufFile::Open(folder_ + "/model-00001-of-70000.gguf").status().message()),
              HasSubstr("at most 512"));
}

TEST_F(GgufSplitTest, ASplitIntoOnePartNeedsNoName) {
  Part part{.no = 0, .count = 1, .architecture = "llama", .tensors = {0, 1, 2, 3, 4, 5, 6}};
  Save(folder_ + "/whole.gguf", Serialize(part));
  EXPECT_TRUE(GgufFile::Open(folder_ + "/whole.gguf").ok());
}

TEST_F(GgufSplitTest, ACountOfAnotherTypeReturnsInvalidArgument) {
  GgufWriter writer;
  writer.SetString("split.count", "three");
  Save(PathOf(1), writer.Serialize());
  EXPECT_EQ(GgufFile::Open(PathOf(1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SplitNameTest, OnlyWholeNamesCount) {
  const auto name = ParseSplitName("/models/big-00002-of-00004.gguf");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->prefix, "/models/big");
  EXPECT_EQ(name->part, 2u);
  EXPECT_EQ(name->count, 4u);
  EXPECT_EQ(name->PathOf(4), "/models/big-00004-of-00004.gguf");
  for (const char* path : {"", "-00001-of-00002.gguf", "a-00000-of-00002.gguf", "a-00003-of-00002.gguf",
                           "a-0001-of-00002.gguf", "a-00001-of-00002.ggu", "a-+0001-of-00002.gguf", "a.gguf"}) {
    EXPECT_FALSE(ParseSplitName(path).has_value()) << path;
  }
}

}  // namespace
}  // namespace tandem::engine
