#include "engine/gguf/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Dims = std::vector<uint64_t>;

std::span<const std::byte> AsBytes(const std::vector<float>& values) { return std::as_bytes(std::span(values)); }

TEST(GgufWriterTest, EverythingWrittenIsReadBack) {
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6}, vector = {7};
  const std::vector<std::string> strings = {"one", "", "three"};
  const std::vector<float> floats = {0.5f, -1};
  const std::vector<int32_t> ints = {-1, 0, 7};
  GgufWriter writer;
  writer.SetUint32("u32", 4000000000u);
  writer.SetUint64("u64", 18000000000000000000u);
  writer.SetInt32("i32", -5);
  writer.SetFloat32("f32", 0.1f);
  writer.SetBool("yes", true);
  writer.SetBool("no", false);
  writer.SetString("text", "grüße");
  writer.SetStrings("strings", strings);
  writer.SetFloats("floats", floats);
  writer.SetInt32s("ints", ints);
  writer.SetFloats("none", {});
  ASSERT_TRUE(writer.AddTensor("matrix", TensorType::kF32, Dims{3, 2}, AsBytes(matrix)).ok());
  ASSERT_TRUE(writer.AddTensor("vector", TensorType::kF32, Dims{1}, AsBytes(vector)).ok());

  const std::vector<std::byte> bytes = writer.Serialize();
  const auto parsed = GgufFile::Parse(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const GgufFile& file = **parsed;
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.metadata().size(), 11u);
  EXPECT_EQ(file.metadata()[1].first, "u64");
  EXPECT_EQ(std::get<uint32_t>(*file.Find("u32")), 4000000000u);
  EXPECT_EQ(std::get<uint64_t>(*file.Find("u64")), 18000000000000000000u);
  EXPECT_EQ(std::get<int32_t>(*file.Find("i32")), -5);
  EXPECT_EQ(std::get<float>(*file.Find("f32")), 0.1f);
  EXPECT_EQ(*file.GetBool("yes"), true);
  EXPECT_EQ(*file.GetBool("no"), false);
  EXPECT_EQ(*file.GetString("text"), "grüße");
  EXPECT_THAT(*file.GetStrings("strings"), ElementsAre("one", "", "three"));
  EXPECT_THAT(*file.GetFloats("floats"), ElementsAre(0.5f, -1));
  EXPECT_THAT(*file.GetInts("ints"), ElementsAre(-1, 0, 7));
  EXPECT_TRUE(file.GetFloats("none")->empty());
  const GgufTensor* tensor = file.FindTensor("matrix");
  ASSERT_NE(tensor, nullptr);
  EXPECT_THAT(tensor->dims, ElementsAre(3, 2));
  EXPECT_EQ(tensor->offset % 32, 0u);
  EXPECT_TRUE(std::ranges::equal(*file.ReadAll(*tensor), AsBytes(matrix)));
  ASSERT_NE(file.FindTensor("vector"), nullptr);
  EXPECT_EQ(file.FindTensor("vector")->offset % 32, 0u);
  EXPECT_TRUE(std::ranges::equal(*file.ReadAll(*file.FindTensor("vector")), AsBytes(vector)));
}

TEST(GgufWriterTest, SettingAKeyAgainReplacesItsValueInPlace) {
  GgufWriter writer;
  writer.SetUint32("a", 1);
  writer.SetUint32("b", 2);
  writer.SetString("a", "new");
  const std::vector<std::byte> bytes = writer.Serialize();
  const auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->metadata().size(), 2u);
  EXPECT_EQ((*file)->metadata()[0].first, "a");
  EXPECT_EQ(*(*file)->GetString("a"), "new");
}

TEST(GgufWriterTest, AnEmptyWriterGivesAValidFile) {
  const std::vector<std::byte> bytes = GgufWriter().Serialize();
  const auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->tensors().empty());
}

TEST(GgufWriterTest, BadTensorsReturnInvalidArgumentAndAreNotAdded) {
  const std::vector<float> data(8);
  GgufWriter writer;
  const auto error = [&](absl::string_view name, const Dims& dims, size_t bytes) {
    const absl::Status status = writer.AddTensor(name, TensorType::kF32, dims, AsBytes(data).first(bytes));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  ASSERT_TRUE(writer.AddTensor("t", TensorType::kF32, Dims{8}, AsBytes(data)).ok());
  EXPECT_THAT(error("t", {8}, 32), HasSubstr("already used"));
  EXPECT_THAT(error("", {8}, 32), HasSubstr("name is empty"));
  EXPECT_THAT(error("u", {8}, 31), AllOf(HasSubstr("has 31 bytes"), HasSubstr("need 32")));
  EXPECT_THAT(error("u", {2, 1, 2, 1, 2}, 32), HasSubstr("5 dimensions"));
  EXPECT_THAT(error("u", {}, 0), HasSubstr("at least one dimension"));
  EXPECT_THAT(error("u", {8, 0}, 0), HasSubstr("dimension 1 is 0"));
  EXPECT_EQ((*GgufFile::Parse(writer.Serialize()))->tensors().size(), 1u);
}

class GgufWriterFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "gguf_writer_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    writer_.SetString("general.name", "test");
    ASSERT_TRUE(writer_.AddTensor("a", TensorType::kF32, Dims{3}, AsBytes(data_)).ok());
    ASSERT_TRUE(writer_.AddTensor("b", TensorType::kF32, Dims{1, 3}, AsBytes(data_)).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  size_t FilesInFolder() const {
    return std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator());
  }

  const std::vector<float> data_ = {1, 2, 3};
  GgufWriter writer_;
  std::string folder_;
};

TEST_F(GgufWriterFileTest, TheFileHasTheSerializedBytesAndNothingElseIsLeft) {
  const std::string path = folder_ + "/a.gguf";
  ASSERT_TRUE(writer_.Write(path).ok());
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> written{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(written)), writer_.Serialize()));
  EXPECT_EQ(FilesInFolder(), 1u);
}

TEST_F(GgufWriterFileTest, AnOlderFileIsReplacedAndItsReadersKeepIt) {
  const std::string path = folder_ + "/a.gguf";
  ASSERT_TRUE(writer_.Write(path).ok());
  const auto old_file = GgufFile::Open(path);
  ASSERT_TRUE(old_file.ok());
  GgufWriter other;
  other.SetString("general.name", "other");
  ASSERT_TRUE(other.Write(path).ok());
  EXPECT_EQ(*(*old_file)->GetString("general.name"), "test");
  EXPECT_EQ(*(*GgufFile::Open(path))->GetString("general.name"), "other");
}

TEST_F(GgufWriterFileTest, MissingFolderReturnsUnavailable) {
  const absl::Status status = writer_.Write(folder_ + "/absent/a.gguf");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No such file or directory"));
}

TEST_F(GgufWriterFileTest, PiecesInAnyOrderMakeTheSameFile) {
  ASSERT_TRUE(writer_.ReserveTensor("c", TensorType::kF32, Dims{3}).ok());
  const std::string path = folder_ + "/a.gguf";
  {
    const auto output = writer_.Create(path);
    ASSERT_TRUE(output.ok()) << output.status();
    ASSERT_TRUE((*output)->Write(2, 4, AsBytes(data_).subspan(4)).ok());
    ASSERT_TRUE((*output)->Write(0, 0, AsBytes(data_)).ok());
    ASSERT_TRUE((*output)->Write(2, 0, AsBytes(data_).first(4)).ok());
    EXPECT_EQ((*output)->Write(3, 0, {}).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ((*output)->Write(0, 8, AsBytes(data_)).code(), absl::StatusCode::kOutOfRange);
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_TRUE((*output)->Finish().ok());
  }
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(std::ranges::equal(*(*file)->ReadAll((*file)->tensors()[2]), AsBytes(data_)));
  EXPECT_TRUE(std::ranges::equal(*(*file)->ReadAll((*file)->tensors()[0]), AsBytes(data_)));
  EXPECT_TRUE(std::ranges::equal(*(*file)->ReadAll((*file)->tensors()[1]), std::vector<std::byte>(12)));
}

TEST_F(GgufWriterFileTest, AnOutputThatIsNotFinishedLeavesNothing) {
  { ASSERT_TRUE(writer_.Create(folder_ + "/a.gguf").ok()); }
  EXPECT_EQ(FilesInFolder(), 0u);
}

TEST_F(GgufWriterFileTest, MoreThanTheDiskHoldsIsRefusedBeforeItIsWritten) {
  ASSERT_TRUE(writer_.ReserveTensor("huge", TensorType::kF32, Dims{uint64_t{1} << 50}).ok());
  const absl::Status status = writer_.Create(folder_ + "/a.gguf").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("needs 4503599627370"), HasSubstr("free")));
  EXPECT_EQ(FilesInFolder(), 0u);
}

TEST(GgufWriterTest, MetadataOfEveryTypeIsCopied) {
  const RawGguf raw = EveryTypeGguf();
  const auto original = GgufFile::Parse(raw.bytes());
  ASSERT_TRUE(original.ok());
  GgufWriter writer;
  for (const auto& [key, value] : (*original)->metadata()) writer.SetValue(key, value);
  const std::vector<std::byte> bytes = writer.Serialize();
  const auto copy = GgufFile::Parse(bytes);
  ASSERT_TRUE(copy.ok()) << copy.status();
  ASSERT_EQ((*copy)->metadata().size(), (*original)->metadata().size());
  for (const auto& [key, value] : (*original)->metadata()) EXPECT_TRUE(*(*copy)->Find(key) == value) << key;
}

TEST_F(GgufWriterFileTest, AFailedRenameLeavesNoTemporaryFile) {
  const std::string path = folder_ + "/directory";
  std::filesystem::create_directory(path);
  EXPECT_EQ(writer_.Write(path).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(FilesInFolder(), 1u);
}

}  // namespace
}  // namespace tandem::engine
