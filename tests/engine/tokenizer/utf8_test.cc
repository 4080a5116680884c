#include "engine/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include "engine/tokenizer/byte_alphabet.h"

namespace tandem::engine {
namespace {

TEST(Utf8Test, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Step step = NextUtf8(text + "x");
    ASSERT_TRUE(step.status == Utf8Status::kWhole) << static_cast<uint32_t>(c);
    ASSERT_EQ(step.bytes, text.size()) << static_cast<uint32_t>(c);
    ASSERT_TRUE(step.code_point == c) << static_cast<uint32_t>(c);
  }
}

TEST(Utf8Test, TellsInvalidFromUnfinished) {
  const auto expect = [](absl::string_view text, Utf8Status status, size_t bytes) {
    const Utf8Step step = NextUtf8(text);
    EXPECT_EQ(step.status, status) << testing::PrintToString(std::string(text));
    EXPECT_EQ(step.bytes, bytes) << testing::PrintToString(std::string(text));
  };
  expect("\x80", Utf8Status::kInvalid, 1);              // continuation without a lead
  expect("\xC0\x80", Utf8Status::kInvalid, 1);          // overlong
  expect("\xE0\x80\x80", Utf8Status::kInvalid, 1);      // overlong
  expect("\xF0\x80\x80\x80", Utf8Status::kInvalid, 1);  // overlong
  expect("\xED\xA0\x80", Utf8Status::kInvalid, 1);      // surrogate
  expect("\xF4\x90\x80\x80", Utf8Status::kInvalid, 1);  // beyond U+10FFFF
  expect("\xF5", Utf8Status::kInvalid, 1);
  expect("\xFF", Utf8Status::kInvalid, 1);
  expect("\xC3(", Utf8Status::kInvalid, 1);
  expect("\xE2\x82(", Utf8Status::kInvalid, 2);
  expect("\xF0\x9F\x98(", Utf8Status::kInvalid, 3);
  expect("\xC3", Utf8Status::kTruncated, 1);
  expect("\xE2\x82", Utf8Status::kTruncated, 2);
  expect("\xF0\x9F\x98", Utf8Status::kTruncated, 3);
}

TEST(Utf8Test, ValidPrefixStopsAtTheFirstBadByte) {
  EXPECT_EQ(ValidUtf8Prefix(""), 0u);
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9z"), 4u);
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9\xFFz"), 3u);
  EXPECT_EQ(ValidUtf8Prefix("a\xC3"), 1u);
}

TEST(ByteAlphabetTest, SpellsPrintableBytesAsThemselvesAndTheOthersFromU0100) {
  EXPECT_EQ(SpellBytes("A!~"), "A!~");
  EXPECT_EQ(SpellBytes(" "), "\xC4\xA0");                         // U+0120
  EXPECT_EQ(SpellBytes("\n"), "\xC4\x8A");                        // U+010A
  EXPECT_EQ(SpellBytes(absl::string_view("\0", 1)), "\xC4\x80");  // U+0100
  EXPECT_EQ(SpellBytes("\xAD"), "\xC5\x83");                      // U+0143, the last
  EXPECT_EQ(SpellBytes("\xFF"), "\xC3\xBF");                      // U+00FF
}

TEST(ByteAlphabetTest, RoundTripsEveryByteAndKeepsOtherCharacters) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  EXPECT_EQ(UnspellBytes(SpellBytes(all)), all);
  EXPECT_EQ(UnspellBytes("\xE4\xBD\xA0\xFF"), "\xE4\xBD\xA0\xFF");
  EXPECT_EQ(ByteOfCharacter(0x144), -1);
  EXPECT_EQ(ByteOfCharacter(0x10FFFF), -1);
}

}  // namespace
}  // namespace tandem::engine
