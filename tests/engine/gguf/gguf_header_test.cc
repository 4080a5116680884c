// GgufFile::ParseHeader: a header that came without its data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "engine/gguf/gguf_writer.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

class GgufHeaderTest : public ::testing::Test {
 protected:
  GgufHeaderTest() {
    GgufWriter writer;
    writer.SetString("general.architecture", "llama");
    const std::vector<std::byte> data(40 * sizeof(float));
    const uint64_t dims[] = {40};
    EXPECT_TRUE(writer.AddTensor("first", TensorType::kF32, dims, data).ok());
    EXPECT_TRUE(writer.AddTensor("second", TensorType::kF32, dims, data).ok());
    bytes_ = writer.Serialize();
    const auto whole = GgufFile::Parse(bytes_);
    EXPECT_TRUE(whole.ok()) << whole.status();
    header_bytes_ = (*whole)->header().size();
  }
  std::vector<std::byte> First(size_t size) const { return {bytes_.begin(), bytes_.begin() + size}; }

  std::vector<std::byte> bytes_;
  size_t header_bytes_ = 0;
};

TEST_F(GgufHeaderTest, DescribesTheFileWithoutItsData) {
  const auto file = GgufFile::ParseHeader(First(header_bytes_), bytes_.size());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE((*file)->has_data());
  EXPECT_EQ((*file)->file_bytes(), bytes_.size());
  EXPECT_EQ((*file)->header().size(), header_bytes_);
  EXPECT_EQ(*(*file)->GetString("general.architecture"), "llama");
  const GgufTensor* second = (*file)->FindTensor("second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->offset, (*GgufFile::Parse(bytes_))->FindTensor("second")->offset);
  EXPECT_EQ((*file)->ReadAll(*second).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*file)->Fingerprint().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GgufHeaderTest, WholeFileHasData) { EXPECT_TRUE((*GgufFile::Parse(bytes_))->has_data()); }

TEST_F(GgufHeaderTest, ReadingBeyondATensorReturnsOutOfRange) {
  const auto file = GgufFile::Parse(bytes_);
  ASSERT_TRUE(file.ok());
  const GgufTensor& tensor = (*file)->tensors()[0];
  std::vector<std::byte> out(tensor.bytes);
  EXPECT_TRUE((*file)->Read(tensor, 0, out).ok());
  EXPECT_EQ((*file)->Read(tensor, 1, out).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*file)->Read(tensor, ~uint64_t{0}, out).code(), absl::StatusCode::kOutOfRange);
  out.push_back({});
  EXPECT_EQ((*file)->Read(tensor, 0, out).code(), absl::StatusCode::kOutOfRange);
}

TEST_F(GgufHeaderTest, EveryTruncationReturnsInvalidArgument) {
  for (size_t size = 0; size < header_bytes_; ++size) {
    const absl::Status status = GgufFile::ParseHeader(First(size), bytes_.size()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST_F(GgufHeaderTest, BytesOfTheDataSectionReturnInvalidArgument) {
  const absl::Status status = GgufFile::ParseHeader(First(header_bytes_ + 1), bytes_.size()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("data section"));
}

TEST_F(GgufHeaderTest, FileTooSmallForItsTensorsReturnsInvalidArgument) {
  const absl::Status status = GgufFile::ParseHeader(First(header_bytes_), bytes_.size() - 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("second"));
}

TEST_F(GgufHeaderTest, FileSmallerThanTheHeaderReturnsInvalidArgument) {
  EXPECT_EQ(GgufFile::ParseHeader(First(header_bytes_), header_bytes_ - 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem::engine
