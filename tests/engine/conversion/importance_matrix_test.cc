#include "engine/conversion/importance_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/gguf/gguf_writer.h"

namespace tandem::engine {
bool FuzzImportanceMatrix(absl::string_view bytes);  // tests/fuzz/imatrix/imatrix_fuzz_body.cc

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ImportanceMatrixTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "imatrix_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Save(const std::string& bytes) {
    std::ofstream(folder_ + "/m", std::ios::binary) << bytes;
    return folder_ + "/m";
  }
  std::string Error(const std::string& bytes) {
    const absl::Status status = ImportanceMatrix::Load(Save(bytes)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
  std::string folder_;
};

std::string Int(int32_t value) { return std::string(reinterpret_cast<const char*>(&value), sizeof(value)); }
std::string OldEntry(const std::string& name, const std::vector<float>& values) {
  return Int(name.size()) + name + Int(3) + Int(values.size()) +
         std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void AddFloats(GgufWriter& writer, const char* name, std::vector<uint64_t> dims, const std::vector<float>& values) {
  ASSERT_TRUE(writer.AddTensor(name, TensorType::kF32, dims, std::as_bytes(std::span(values))).ok());
}

TEST_F(ImportanceMatrixTest, GgufFileGivesMeanSquares) {
  const std::vector<float> sums = {2, 4, 6, 30, 60, 90, 5, 5, 5}, counts = {2, 10, 0}, plain = {8, 16}, four = {4};
  GgufWriter writer;
  writer.SetString("general.type", "imatrix");
  AddFloats(writer, "blk.0.ffn_up_exps.weight.in_sum2", {3, 3}, sums);
  AddFloats(writer, "blk.0.ffn_up_exps.weight.counts", {1, 3}, counts);
  AddFloats(writer, "blk.0.attn_q.weight.in_sum2", {2}, plain);
  AddFloats(writer, "blk.0.attn_q.weight.counts", {1}, four);
  ASSERT_TRUE(writer.Write(folder_ + "/m.gguf").ok());
  const auto matrix = ImportanceMatrix::Load(folder_ + "/m.gguf");
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->size(), 2u);
  EXPECT_THAT(matrix->For("blk.0.attn_q.weight"), ElementsAre(2, 4));
  EXPECT_THAT(matrix->For("blk.0.ffn_up_exps.weight"), ElementsAre(1, 2, 3, 3, 6, 9, 1, 1, 1));
  EXPECT_TRUE(matrix->For("blk.1.attn_q.weight").empty());
}

TEST_F(ImportanceMatrixTest, GgufFileWithoutCountsIsRefused) {
  const std::vector<float> sums = {1, 2};
  GgufWriter writer;
  AddFloats(writer, "a.in_sum2", {2}, sums);
  ASSERT_TRUE(writer.Write(folder_ + "/m.gguf").ok());
  EXPECT_THAT(std::string(ImportanceMatrix::Load(folder_ + "/m.gguf").status().message()), HasSubstr("no .counts"));
  GgufWriter empty;
  ASSERT_TRUE(empty.Write(folder_ + "/m.gguf").ok());
  EXPECT_THAT(std::string(ImportanceMatrix::Load(folder_ + "/m.gguf").status().message()),
              HasSubstr("is no importance"));
}

TEST_F(ImportanceMatrixTest, OlderFile) {
  const auto matrix =
      ImportanceMatrix::Load(Save(Int(2) + OldEntry("a.weight", {1, 2}) + OldEntry("b.weight", {3}) + "remarks"));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(matrix->For("a.weight"), ElementsAre(1, 2));
  EXPECT_THAT(matrix->For("b.weight"), ElementsAre(3));
}

TEST_F(ImportanceMatrixTest, EveryTruncationOfAnOlderFileIsRefused) {
  const std::string whole = Int(2) + OldEntry("a.weight", {1, 2}) + OldEntry("b.weight", {3});
  for (size_t size = 4; size < whole.size(); ++size) Error(whole.substr(0, size));
}

TEST_F(ImportanceMatrixTest, ImpossibleNumbersAreNamed) {
  EXPECT_THAT(Error(Int(0)), HasSubstr("0 entries"));
  EXPECT_THAT(Error(Int(1) + Int(1 << 30)), HasSubstr("has 1073741824 bytes"));
  EXPECT_THAT(Error(Int(1) + Int(-1)), HasSubstr("has -1 bytes"));
  EXPECT_THAT(Error(Int(1) + Int(1) + "a" + Int(1) + Int(0x7fffffff)), HasSubstr("2147483647 values"));
  EXPECT_THAT(Error(Int(1) + Int(1) + "a" + Int(1) + Int(-5)), HasSubstr("-5 values"));
  EXPECT_EQ(ImportanceMatrix::Load(folder_ + "/absent").status().code(), absl::StatusCode::kNotFound);
}

TEST(ImportanceMatrixFuzzTest, SeedsKeepEveryPromise) {
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/imatrix/corpus")) {
    std::ifstream file(entry.path(), std::ios::binary);
    (FuzzImportanceMatrix(std::string(std::istreambuf_iterator<char>(file), {})) ? accepted : refused) += 1;
  }
  EXPECT_GE(accepted, 1);
  EXPECT_GE(refused, 3);
}

}  // namespace
}  // namespace tandem::engine
