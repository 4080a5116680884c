// GgufFile::Open: what the file system can hand it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class GgufOpenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "gguf_open_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Save(const std::string& name, std::span<const std::byte> bytes) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return path;
  }

  std::string folder_;
};

TEST_F(GgufOpenTest, ReadsAFile) {
  const RawGguf raw = EveryTypeGguf();
  const auto file = GgufFile::Open(Save("a.gguf", raw.bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->file_bytes(), raw.size());
  EXPECT_EQ(*(*file)->Fingerprint(), *(*GgufFile::Parse(raw.bytes()))->Fingerprint());
  EXPECT_EQ((*(*file)->ReadAll(*(*file)->FindTensor("matrix")))[5], std::byte{5});
}

TEST_F(GgufOpenTest, TheFileOutlivesItsName) {
  const std::string path = Save("a.gguf", EveryTypeGguf().bytes());
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::remove(path);
  EXPECT_EQ(*(*file)->GetString("string"), "text");
  EXPECT_EQ((*(*file)->ReadAll(*(*file)->FindTensor("matrix")))[5], std::byte{5});
}

// A mapped file would end the process here.
TEST_F(GgufOpenTest, AFileThatShrinksGivesDataLossAndKeepsItsHeader) {
  const RawGguf raw = EveryTypeGguf();
  const std::string path = Save("a.gguf", raw.bytes());
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), 100), 0);
  EXPECT_EQ(*(*file)->GetString("string"), "text");
  EXPECT_TRUE(std::ranges::equal((*file)->header(), std::span(raw.bytes()).first((*file)->header().size())));
  for (const absl::Status& status :
       {(*file)->ReadAll(*(*file)->FindTensor("matrix")).status(), (*file)->Fingerprint().status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("tensor matrix"), HasSubstr("a.gguf: ends at byte")));
  }
}

// More than the reader takes from the disk at a time, so that strings and padding cross the border between two reads.
TEST_F(GgufOpenTest, AHeaderOfManyMegabytes) {
  for (const uint32_t alignment : {32u, 1u << 20}) {
    RawGguf raw(3, 1, 2);
    raw.Scalar<uint32_t>("general.alignment", kRawUint32, alignment).ArrayKey("words", kRawString, 300000);
    for (int i = 0; i < 300000; ++i) raw.String("word" + std::to_string(i));
    raw.Tensor("t", {1}, 0, 0).Pad(alignment).Number(7.0f);
    ASSERT_GT(raw.size(), size_t{4} << 20);
    const auto file = GgufFile::Open(Save("big.gguf", raw.bytes()));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_TRUE(std::ranges::equal((*file)->header(), std::span(raw.bytes()).first((*file)->header().size())));
    EXPECT_EQ((*(*file)->GetStrings("words"))[299999], "word299999");
    EXPECT_EQ(*(*file)->Fingerprint(), *(*GgufFile::Parse(raw.bytes()))->Fingerprint());
  }
}

TEST_F(GgufOpenTest, MissingFileReturnsNotFound) {
  const absl::Status status = GgufFile::Open(folder_ + "/absent.gguf").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("absent.gguf"));
}

TEST_F(GgufOpenTest, DirectoryReturnsInvalidArgument) {
  const absl::Status status = GgufFile::Open(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is a directory"));
}

TEST_F(GgufOpenTest, NamedPipeReturnsInvalidArgumentAtOnce) {
  const std::string path = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const absl::Status status = GgufFile::Open(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a regular file"));
}

TEST_F(GgufOpenTest, EmptyFileReturnsInvalidArgument) {
  const absl::Status status = GgufFile::Open(Save("empty.gguf", {})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is empty"));
}

TEST_F(GgufOpenTest, UnreadableFileReturnsPermissionDenied) {
  const std::string path = Save("secret.gguf", EveryTypeGguf().bytes());
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  ASSERT_EQ(chmod(folder_.c_str(), 0755), 0);
  const bool root = geteuid() == 0;  // root reads every file: be nobody meanwhile
  ASSERT_EQ(root ? seteuid(65534) : 0, 0);
  const absl::Status status = GgufFile::Open(path).status();
  ASSERT_EQ(root ? seteuid(0) : 0, 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
}

// In a file of 64 GiB (of holes) a wrong count has the bytes it claims; believing it would take all memory.
TEST_F(GgufOpenTest, WrongCountsInAHugeFileAreRefused) {
  const std::vector<RawGguf> headers = {RawGguf(3, 0, uint64_t{1} << 30), RawGguf(3, uint64_t{1} << 30, 0),
                                        RawGguf(3, 0, 1).ArrayKey("k", kRawString, uint64_t{1} << 32),
                                        RawGguf(3, 0, 1).ArrayKey("k", kRawUint8, uint64_t{1} << 35),
                                        RawGguf(3, 0, 1).Key("k", kRawString).Number(uint64_t{1} << 35)};
  for (const RawGguf& header : headers) {
    const std::string path = Save("huge.gguf", header.bytes());
    ASSERT_EQ(truncate(path.c_str(), off_t{1} << 36), 0);
    const absl::Status status = GgufFile::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("bytes left in the largest supported header, 256 MiB"));
  }
}

TEST_F(GgufOpenTest, ParseErrorsNameTheFile) {
  const absl::Status status = GgufFile::Open(Save("bad.gguf", RawGguf(3, 1, 0).bytes())).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("bad.gguf: GGUF: header: tensor count"));
}

}  // namespace
}  // namespace tandem::engine
