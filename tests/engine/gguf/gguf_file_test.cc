// Reading well-formed files: every value type, typed access, tensors, versions.
#include "engine/gguf/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<GgufFile> ParseOrDie(const RawGguf& raw) {
  auto file = GgufFile::Parse(raw.bytes());
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

class GgufFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(file_, nullptr); }

  const RawGguf raw_ = EveryTypeGguf();
  const std::unique_ptr<GgufFile> file_ = ParseOrDie(raw_);
};

TEST_F(GgufFileTest, MetadataIsInFileOrder) {
  ASSERT_EQ(file_->metadata().size(), 25u);
  EXPECT_EQ(file_->metadata()[0].first, "u8");
  EXPECT_EQ(file_->metadata()[8].first, "string");
  EXPECT_EQ(file_->metadata()[24].first, "empty");
}

TEST_F(GgufFileTest, ValuesKeepTheirTypeInTheFile) {
  EXPECT_EQ(std::get<uint8_t>(*file_->Find("u8")), 200);
  EXPECT_EQ(std::get<int8_t>(*file_->Find("i8")), -100);
  EXPECT_EQ(std::get<uint16_t>(*file_->Find("u16")), 60000);
  EXPECT_EQ(std::get<int16_t>(*file_->Find("i16")), -30000);
  EXPECT_EQ(std::get<uint32_t>(*file_->Find("u32")), 4000000000u);
  EXPECT_EQ(std::get<int32_t>(*file_->Find("i32")), -2000000000);
  EXPECT_EQ(std::get<float>(*file_->Find("f32")), 1.5f);
  EXPECT_EQ(std::get<bool>(*file_->Find("bool")), true);
  EXPECT_EQ(std::get<absl::string_view>(*file_->Find("string")), "text");
  EXPECT_EQ(std::get<uint64_t>(*file_->Find("u64")), 18000000000000000000u);
  EXPECT_EQ(std::get<int64_t>(*file_->Find("i64")), -9000000000000000000);
  EXPECT_EQ(std::get<double>(*file_->Find("f64")), 0.1);
}

TEST_F(GgufFileTest, ArraysKeepTheirTypeInTheFile) {
  const auto array = [&](absl::string_view key) { return std::get<GgufArray>(*file_->Find(key)); };
  EXPECT_THAT(std::get<std::vector<uint8_t>>(array("u8s")), ElementsAre(0, 255));
  EXPECT_THAT(std::get<std::vector<int8_t>>(array("i8s")), ElementsAre(-128, 127));
  EXPECT_THAT(std::get<std::vector<uint16_t>>(array("u16s")), ElementsAre(1, 65535));
  EXPECT_THAT(std::get<std::vector<int16_t>>(array("i16s")), ElementsAre(-1, 2));
  EXPECT_THAT(std::get<std::vector<uint32_t>>(array("u32s")), ElementsAre(7, 4294967295));
  EXPECT_THAT(std::get<std::vector<int32_t>>(array("i32s")), ElementsAre(-7, 7, 8));
  EXPECT_THAT(std::get<std::vector<float>>(array("f32s")), ElementsAre(0.5f, -2));
  EXPECT_THAT(std::get<std::vector<bool>>(array("bools")), ElementsAre(true, false, true));
  EXPECT_THAT(std::get<std::vector<absl::string_view>>(array("strings")), ElementsAre("a", "", "longer text"));
  EXPECT_THAT(std::get<std::vector<uint64_t>>(array("u64s")), ElementsAre(1, 18446744073709551615u));
  EXPECT_THAT(std::get<std::vector<int64_t>>(array("i64s")), ElementsAre(-5));
  EXPECT_THAT(std::get<std::vector<double>>(array("f64s")), ElementsAre(1e300));
  EXPECT_THAT(std::get<std::vector<float>>(array("empty")), ElementsAre());
}

TEST_F(GgufFileTest, IntegersConvertBetweenWidths) {
  EXPECT_EQ(*file_->GetUint("u8"), 200u);
  EXPECT_EQ(*file_->GetInt("u8"), 200);
  EXPECT_EQ(*file_->GetInt("i8"), -100);
  EXPECT_EQ(*file_->GetUint("u64"), 18000000000000000000u);
  EXPECT_EQ(*file_->GetInt("i64"), -9000000000000000000);
  EXPECT_THAT(*file_->GetInts("i8s"), ElementsAre(-128, 127));
  EXPECT_THAT(*file_->GetInts("u32s"), ElementsAre(7, 4294967295));
}

TEST_F(GgufFileTest, IntegersThatDoNotFitReturnInvalidArgument) {
  const absl::Status negative = file_->GetUint("i8").status();
  EXPECT_EQ(negative.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(negative.message()), HasSubstr("'i8' is -100"));
  const absl::Status large = file_->GetInt("u64").status();
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(large.message()), HasSubstr("18000000000000000000"));
  EXPECT_EQ(file_->GetInts("u64s").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GgufFileTest, OtherTypedAccessReturnsTheValue) {
  EXPECT_EQ(*file_->GetFloat("f32"), 1.5);
  EXPECT_EQ(*file_->GetFloat("f64"), 0.1);
  EXPECT_EQ(*file_->GetBool("bool"), true);
  EXPECT_EQ(*file_->GetString("string"), "text");
  EXPECT_THAT(*file_->GetStrings("strings"), ElementsAre("a", "", "longer text"));
  EXPECT_THAT(*file_->GetFloats("f32s"), ElementsAre(0.5f, -2));
  EXPECT_TRUE(file_->GetFloats("empty")->empty());
}

TEST_F(GgufFileTest, AnotherTypeReturnsInvalidArgumentAndNamesTheKey) {
  const std::vector<absl::Status> statuses = {
      file_->GetUint("string").status(),    file_->GetUint("bool").status(),    file_->GetInt("f32").status(),
      file_->GetFloat("u32").status(),      file_->GetBool("u8").status(),      file_->GetString("strings").status(),
      file_->GetStrings("string").status(), file_->GetStrings("f32s").status(), file_->GetFloats("f64s").status(),
      file_->GetInts("f32s").status(),      file_->GetInts("bools").status(),   file_->GetInts("u32").status()};
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::ContainsRegex("metadata key '[a-z0-9]+' must be"));
  }
}

TEST_F(GgufFileTest, MissingKeyReturnsNotFoundAndNamesIt) {
  EXPECT_EQ(file_->Find("absent"), nullptr);
  EXPECT_FALSE(file_->Has("absent"));
  const std::vector<absl::Status> statuses = {
      file_->Get("absent").status(),        file_->GetUint("absent").status(),   file_->GetInt("absent").status(),
      file_->GetFloat("absent").status(),   file_->GetBool("absent").status(),   file_->GetString("absent").status(),
      file_->GetStrings("absent").status(), file_->GetFloats("absent").status(), file_->GetInts("absent").status()};
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("'absent'"));
  }
}

TEST_F(GgufFileTest, TensorsHaveShapeTypeAndData) {
  ASSERT_EQ(file_->tensors().size(), 2u);
  const GgufTensor* matrix = file_->FindTensor("matrix");
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(matrix->type, TensorType::kQ8_0);
  EXPECT_EQ(matrix->cols(), 32u);
  EXPECT_EQ(matrix->rows(), 2u);
  EXPECT_EQ(matrix->bytes, 68u);
  EXPECT_EQ((*file_->ReadAll(*matrix))[67], std::byte{67});
  const GgufTensor* vector = file_->FindTensor("vector");
  ASSERT_NE(vector, nullptr);
  EXPECT_EQ(vector->cols(), 3u);
  EXPECT_EQ(vector->rows(), 1u);
  EXPECT_EQ(vector->offset + vector->bytes, file_->file_bytes());
  float values[3];
  ASSERT_TRUE(file_->Read(*vector, 0, std::as_writable_bytes(std::span(values))).ok());
  EXPECT_THAT(values, ElementsAre(1, 2, 3));
  EXPECT_EQ(file_->FindTensor("absent"), nullptr);
}

TEST_F(GgufFileTest, HeaderEndsWhereTheDataSectionBegins) {
  EXPECT_EQ(file_->header().size() % 32, 0u);
  EXPECT_EQ(file_->FindTensor("matrix")->offset, file_->header().size());
  EXPECT_EQ(file_->version(), 3u);
  EXPECT_EQ(file_->alignment(), 32u);
}

TEST(GgufFileVersionTest, Version2IsRead) {
  const RawGguf raw = RawGguf(2, 0, 1).Scalar<uint32_t>("k", kRawUint32, 5);
  const auto file = ParseOrDie(raw);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->version(), 2u);
  EXPECT_EQ(*file->GetUint("k"), 5u);
}

TEST(GgufFileAlignmentTest, GeneralAlignmentPlacesTheData) {
  for (const uint32_t alignment : {8u, 64u, 4096u, 1u << 20}) {
    RawGguf raw(3, 1, 1);
    raw.Scalar<uint32_t>("general.alignment", kRawUint32, alignment).Tensor("t", {1}, 0, alignment);
    raw.Pad(alignment).Zeros(alignment).Number(7.0f);
    const auto file = ParseOrDie(raw);
    ASSERT_NE(file, nullptr);
    EXPECT_EQ(file->alignment(), alignment);
    float value = 0;
    ASSERT_TRUE(file->Read(file->tensors()[0], 0, std::as_writable_bytes(std::span(&value, 1))).ok());
    EXPECT_EQ(value, 7.0f);
  }
}

TEST(GgufFileVocabularyTest, AFileWithoutTensorsMayEndWithoutPadding) {
  const RawGguf raw = RawGguf(3, 0, 1).Scalar<uint8_t>("k", kRawUint8, 5);
  ASSERT_NE(raw.size() % 32, 0u);
  const auto file = ParseOrDie(raw);
  ASSERT_NE(file, nullptr);
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->header().size(), raw.size());
}

TEST(GgufFileVocabularyTest, AFileWithNothingInItIsValid) {
  const auto file = ParseOrDie(RawGguf(3, 0, 0));
  ASSERT_NE(file, nullptr);
  EXPECT_TRUE(file->metadata().empty());
}

TEST(GgufFileFingerprintTest, DependsOnHeaderSizeAndTheStartOfEachTensor) {
  const auto file_of = [](uint32_t value, size_t tensor_bytes, size_t changed, size_t extra) {
    RawGguf raw(3, 1, 1);
    raw.Scalar<uint32_t>("k", kRawUint32, value).Tensor("t", {8192}, static_cast<uint32_t>(TensorType::kI8), 0).Pad(32);
    for (size_t i = 0; i < tensor_bytes; ++i) raw.Number(static_cast<uint8_t>(i == changed ? 1 : 0));
    return raw.Zeros(extra);
  };
  const auto fingerprint = [](const RawGguf& raw) { return *ParseOrDie(raw)->Fingerprint(); };
  constexpr size_t kNowhere = 99999;
  const std::string base = fingerprint(file_of(1, 8192, kNowhere, 0));
  EXPECT_EQ(base.size(), 32u);
  EXPECT_EQ(fingerprint(file_of(1, 8192, kNowhere, 0)), base);
  EXPECT_NE(fingerprint(file_of(2, 8192, kNowhere, 0)), base);   // header
  EXPECT_NE(fingerprint(file_of(1, 8192, 4095, 0)), base);       // last hashed byte
  EXPECT_NE(fingerprint(file_of(1, 8192, kNowhere, 32)), base);  // file size
  EXPECT_EQ(fingerprint(file_of(1, 8192, 4096, 0)), base);       // beyond the first 4 KiB
}

}  // namespace
}  // namespace tandem::engine
