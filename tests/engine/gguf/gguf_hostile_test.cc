// Files that are wrong on purpose: each check of the parser, with the field and the offset that its message must name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/gguf/gguf_file.h"
#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPreamble = 24;  // magic, version, two counts
constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
constexpr uint32_t kF32 = 0;

// The message of the error that `raw` gives.
std::string Error(const RawGguf& raw, absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const absl::Status status = GgufFile::Parse(raw.bytes()).status();
  EXPECT_EQ(status.code(), code) << status;
  return std::string(status.message());
}

auto AtByte(uint64_t offset) { return HasSubstr(absl::StrCat("(at byte ", offset, ")")); }

TEST(GgufHostileTest, EmptyAndOtherFilesAreNotGguf) {
  EXPECT_THAT(Error(RawGguf()), HasSubstr("not a GGUF file"));
  EXPECT_THAT(Error(RawGguf().Raw("GGU")), HasSubstr("not a GGUF file"));
  EXPECT_THAT(Error(RawGguf().Raw("\x7f"
                                  "ELF                        ")),
              HasSubstr("not a GGUF file"));
}

TEST(GgufHostileTest, UnsupportedVersionsReturnUnimplemented) {
  for (const uint32_t version : {0u, 1u, 4u, 4000000000u}) {
    const std::string error = Error(RawGguf(version, 0, 0), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(error, HasSubstr(absl::StrCat("version is ", version)));
    EXPECT_THAT(error, HasSubstr("versions 2 and 3"));
  }
}

TEST(GgufHostileTest, BigEndianReturnsUnimplemented) {
  for (const uint32_t version : {1u, 2u, 3u}) {
    const RawGguf raw(__builtin_bswap32(version), 0, 0);
    EXPECT_THAT(Error(raw, absl::StatusCode::kUnimplemented), HasSubstr("big-endian"));
  }
}

TEST(GgufHostileTest, CountsBeyondTheFileAreRefusedBeforeAllocation) {
  EXPECT_THAT(Error(RawGguf(3, kHuge, 0)), AllOf(HasSubstr("tensor count"), HasSubstr(absl::StrCat(kHuge)), AtByte(8)));
  EXPECT_THAT(Error(RawGguf(3, 0, kHuge)), AllOf(HasSubstr("metadata count"), AtByte(16)));
  EXPECT_THAT(Error(RawGguf(3, 0, uint64_t{1} << 40).Zeros(1000)), HasSubstr("metadata count"));
  EXPECT_THAT(Error(RawGguf(3, 31, 0).Zeros(31 * 33 - 1)), HasSubstr("tensor count"));
  EXPECT_THAT(Error(RawGguf(3, 0, 10).Zeros(10 * 14 - 1)), HasSubstr("metadata count"));
}

TEST(GgufHostileTest, TensorCountIsCheckedAgainAfterTheMetadata) {
  RawGguf raw(3, 20, 1);
  raw.Key("text", kRawString).String(std::string(1000, 'x'));
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("tensor count is 20"), HasSubstr("0 bytes left"), AtByte(8)));
}

TEST(GgufHostileTest, KeyLengthIsChecked) {
  const RawGguf beyond = RawGguf(3, 0, 1).Number<uint64_t>(kHuge).Zeros(50);
  EXPECT_THAT(Error(beyond), AllOf(HasSubstr("metadata key number 0"), HasSubstr("only 50 bytes left in the file"),
                                   AtByte(kPreamble)));
  const RawGguf empty = RawGguf(3, 0, 1).Scalar<uint64_t>("", kRawUint64, 1);
  EXPECT_THAT(Error(empty), AllOf(HasSubstr("the key is 0 bytes long"), AtByte(kPreamble)));
  const RawGguf large = RawGguf(3, 0, 1).Scalar<uint8_t>(std::string(65536, 'k'), kRawUint8, 1);
  EXPECT_THAT(Error(large), HasSubstr("65536 bytes long, must be 1 to 65535"));
}

TEST(GgufHostileTest, DuplicateKeyIsRefused) {
  RawGguf raw(3, 0, 2);
  raw.Scalar<uint32_t>("k", kRawUint32, 1);
  const uint64_t second = raw.size();
  raw.Scalar<uint32_t>("k", kRawUint32, 1);
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("metadata key 'k'"), HasSubstr("occurs twice"), AtByte(second)));
}

TEST(GgufHostileTest, UnknownValueTypesAreRefused) {
  const RawGguf scalar = RawGguf(3, 0, 1).String("k").Number<uint32_t>(13).Zeros(8);
  EXPECT_THAT(Error(scalar), AllOf(HasSubstr("value type is 13"), AtByte(kPreamble + 9)));
  const RawGguf array = RawGguf(3, 0, 1).ArrayKey("k", 99, 0);
  EXPECT_THAT(Error(array), AllOf(HasSubstr("element type is 99"), AtByte(kPreamble + 13)));
}

TEST(GgufHostileTest, NestedArraysAreRefused) {
  const RawGguf raw = RawGguf(3, 0, 1).ArrayKey("k", kRawArray, 1).Number<uint32_t>(0).Number<uint64_t>(0);
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("'k'"), HasSubstr("arrays of arrays"), AtByte(kPreamble + 13)));
}

TEST(GgufHostileTest, BoolsOtherThanZeroAndOneAreRefused) {
  EXPECT_THAT(Error(RawGguf(3, 0, 1).Scalar<uint8_t>("k", kRawBool, 2)),
              AllOf(HasSubstr("a bool is 2"), AtByte(kPreamble + 13)));
  EXPECT_THAT(Error(RawGguf(3, 0, 1).Array<uint8_t>("k", kRawBool, {1, 0, 255})),
              AllOf(HasSubstr("a bool is 255"), AtByte(kPreamble + 27)));
}

TEST(GgufHostileTest, ArrayLengthsBeyondTheFileAreRefusedBeforeAllocation) {
  for (uint32_t type = 0; type <= 12; ++type) {
    if (type == kRawArray) continue;
    for (const uint64_t count : {kHuge, kHuge / 8 + 1, uint64_t{1} << 40, uint64_t{101}}) {
      const RawGguf raw = RawGguf(3, 0, 1).ArrayKey("k", type, count).Zeros(100);
      EXPECT_THAT(Error(raw), AllOf(HasSubstr("metadata key 'k'"), HasSubstr(absl::StrCat("array length is ", count)),
                                    AtByte(kPreamble + 17)));
    }
  }
}

TEST(GgufHostileTest, StringLengthsBeyondTheFileAreRefused) {
  const RawGguf scalar = RawGguf(3, 0, 1).Key("k", kRawString).Number(kHuge - 7).Zeros(9);
  EXPECT_THAT(Error(scalar), AllOf(HasSubstr("'k'"), HasSubstr("only 9 bytes"), AtByte(kPreamble + 13)));
  const RawGguf array = RawGguf(3, 0, 1).ArrayKey("k", kRawString, 2).String("ab").Number<uint64_t>(10).Zeros(9);
  EXPECT_THAT(Error(array), AllOf(HasSubstr("string in the array is 10 bytes long"), AtByte(kPreamble + 35)));
}

TEST(GgufHostileTest, TruncatedScalarNamesTheKey) {
  const RawGguf raw = RawGguf(3, 0, 1).Key("k", kRawUint64).Zeros(7);
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("'k'"), HasSubstr("needs 8 bytes, but there are only 7 bytes left"),
                                AtByte(kPreamble + 13)));
}

TEST(GgufHostileTest, AlignmentIsChecked) {
  constexpr char kKey[] = "general.alignment";
  const uint64_t value_at = kPreamble + 8 + 17 + 4;
  for (const uint32_t alignment : {0u, 1u, 4u, 33u, 48u, 2u << 20, 0x80000000u}) {
    EXPECT_THAT(Error(RawGguf(3, 0, 1).Scalar(kKey, kRawUint32, alignment)),
                AllOf(HasSubstr("'general.alignment'"), HasSubstr(absl::StrCat("is ", alignment)), AtByte(value_at)));
  }
  EXPECT_THAT(Error(RawGguf(3, 0, 1).Scalar<uint64_t>(kKey, kRawUint64, 32)), HasSubstr("must be of type uint32"));
  EXPECT_THAT(Error(RawGguf(3, 0, 1).Key(kKey, kRawString).String("32")), HasSubstr("must be of type uint32"));
}

TEST(GgufHostileTest, DimensionCountIsChecked) {
  for (const uint32_t n_dims : {0u, 5u, 0xffffffffu}) {
    const RawGguf raw = RawGguf(3, 1, 0).String("t").Number(n_dims).Zeros(100);
    EXPECT_THAT(Error(raw),
                AllOf(HasSubstr("tensor 't'"), HasSubstr(absl::StrCat("n_dims is ", n_dims)), AtByte(kPreamble + 9)));
  }
}

TEST(GgufHostileTest, DimensionsAreChecked) {
  const auto error = [](std::initializer_list<uint64_t> dims, uint32_t type) {
    return Error(RawGguf(3, 1, 0).Tensor("t", dims, type, 0).Pad(32).Zeros(1024));
  };
  EXPECT_THAT(error({0}, kF32), AllOf(HasSubstr("tensor 't'"), HasSubstr("dimension 0 is 0"), AtByte(kPreamble + 9)));
  EXPECT_THAT(error({4, 0}, kF32), HasSubstr("dimension 1 is 0"));
  EXPECT_THAT(error({uint64_t{1} << 62, 4}, kF32), HasSubstr("overflows"));
  EXPECT_THAT(error({kHuge}, kF32), HasSubstr("overflows"));
  EXPECT_THAT(error({uint64_t{1} << 32, uint64_t{1} << 32, 1, 1}, kF32), HasSubstr("overflows"));
  EXPECT_THAT(error({31}, static_cast<uint32_t>(TensorType::kQ8_0)), HasSubstr("multiple of 32"));
}

TEST(GgufHostileTest, UnknownTensorTypeIsRefused) {
  for (const uint32_t type : {4u, 5u, 31u, 1000u}) {
    EXPECT_THAT(Error(RawGguf(3, 1, 0).Tensor("t", {32}, type, 0).Pad(32).Zeros(1024)),
                AllOf(HasSubstr("tensor 't'"), HasSubstr(absl::StrCat("type ", type)), AtByte(kPreamble + 21)));
  }
}

TEST(GgufHostileTest, TensorNameIsChecked) {
  EXPECT_THAT(Error(RawGguf(3, 1, 0).Tensor("", {1}, kF32, 0).Zeros(64)),
              AllOf(HasSubstr("tensor number 0"), HasSubstr("name is empty"), AtByte(kPreamble)));
  RawGguf raw(3, 2, 0);
  raw.Tensor("t", {1}, kF32, 0);
  const uint64_t second = raw.size();
  raw.Tensor("t", {1}, kF32, 32).Pad(32).Zeros(64);
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("tensor 't'"), HasSubstr("occurs twice"), AtByte(second)));
}

TEST(GgufHostileTest, TensorOffsetIsChecked) {
  const uint64_t offset_at = kPreamble + 8 + 1 + 4 + 8 + 4;
  const auto error = [](uint64_t offset) {
    return Error(RawGguf(3, 1, 0).Tensor("t", {8}, kF32, offset).Pad(32).Zeros(64));
  };
  EXPECT_THAT(error(16), AllOf(HasSubstr("tensor 't'"), HasSubstr("multiple of 32"), AtByte(offset_at)));
  EXPECT_THAT(error(64), AllOf(HasSubstr("pass the end of the file"), AtByte(offset_at)));
  EXPECT_THAT(error(kHuge - 31), HasSubstr("pass the end of the file"));  // would wrap around
  EXPECT_THAT(error(96), HasSubstr("pass the end of the file"));
}

TEST(GgufHostileTest, TruncatedDataNamesTheTensor) {
  const RawGguf raw = RawGguf(3, 1, 0).Tensor("t", {8}, kF32, 0).Pad(32).Zeros(31);
  EXPECT_THAT(Error(raw), AllOf(HasSubstr("tensor 't'"), HasSubstr("truncated")));
  EXPECT_THAT(Error(RawGguf(3, 1, 0).Tensor("t", {8}, kF32, 0)), HasSubstr("pass the end of the file"));
}

TEST(GgufHostileTest, NamesInErrorsAreShortenedAndEscaped) {
  const std::string error = Error(RawGguf(3, 0, 1).Scalar<uint8_t>("evil\n\x1b[31m\xff", kRawBool, 9));
  EXPECT_THAT(error, HasSubstr(R"('evil\x0a\x1b[31m\xff')"));
  const std::string long_key(1000, 'k');
  EXPECT_THAT(Error(RawGguf(3, 0, 1).Scalar<uint8_t>(long_key, kRawBool, 9)),
              HasSubstr(absl::StrCat("'", long_key.substr(0, 64), "...'")));
}

}  // namespace
}  // namespace tandem::engine
