#include "engine/gguf/gguf_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace tandem::engine {
namespace {

constexpr size_t kAll = 1000;

TEST(DisplayableTest, KeepsPrintableUtf8) {
  for (const char* text : {"plain", "Größe", "Ġthe", "▁a", "日本語", "🙂", "a\"b'c\\"}) {
    EXPECT_EQ(Displayable(text, kAll), text);
  }
}

TEST(DisplayableTest, EscapesControlCharacters) {
  EXPECT_EQ(Displayable("a\n\t\x1b[0m\x7f", kAll), R"(a\x0a\x09\x1b[0m\x7f)");
  EXPECT_EQ(Displayable("\xc2\x9b"
                        "31m",
                        kAll),
            R"(\xc2\x9b31m)");  // C1 control sequence introducer
  EXPECT_EQ(Displayable(absl::string_view("\0", 1), kAll), R"(\x00)");
}

TEST(DisplayableTest, EscapesMalformedUtf8) {
  EXPECT_EQ(Displayable("\x80", kAll), R"(\x80)");                          // stray continuation
  EXPECT_EQ(Displayable("\xc3", kAll), R"(\xc3)");                          // cut short
  EXPECT_EQ(Displayable("\xe6\x97z", kAll), R"(\xe6\x97z)");                // cut short
  EXPECT_EQ(Displayable("\xc0\xaf", kAll), R"(\xc0\xaf)");                  // overlong, 2 bytes
  EXPECT_EQ(Displayable("\xe0\x80\xaf", kAll), R"(\xe0\x80\xaf)");          // overlong, 3 bytes
  EXPECT_EQ(Displayable("\xf0\x80\x80\xaf", kAll), R"(\xf0\x80\x80\xaf)");  // overlong, 4 bytes
  EXPECT_EQ(Displayable("\xed\xa0\x80", kAll), R"(\xed\xa0\x80)");          // surrogate
  EXPECT_EQ(Displayable("\xf4\x90\x80\x80", kAll), R"(\xf4\x90\x80\x80)");  // beyond U+10FFFF
}

TEST(DisplayableTest, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(Displayable("abcdef", 3), "abc...");
  EXPECT_EQ(Displayable("abc", 3), "abc");
  EXPECT_EQ(Displayable("aéz", 2), "aé...");
}

TEST(FormatValueTest, ScalarsAreInFull) {
  EXPECT_EQ(FormatValue(GgufValue(uint8_t{65})), "65");
  EXPECT_EQ(FormatValue(GgufValue(int8_t{-65})), "-65");
  EXPECT_EQ(FormatValue(GgufValue(std::numeric_limits<uint64_t>::max())), "18446744073709551615");
  EXPECT_EQ(FormatValue(GgufValue(std::numeric_limits<int64_t>::min())), "-9223372036854775808");
  EXPECT_EQ(FormatValue(GgufValue(1e-5f)), "1e-05");
  EXPECT_EQ(FormatValue(GgufValue(0.25)), "0.25");
  EXPECT_EQ(FormatValue(GgufValue(true)), "true");
  EXPECT_EQ(FormatValue(GgufValue(false)), "false");
  const std::string text(500, 'x');
  EXPECT_EQ(FormatValue(GgufValue(absl::string_view(text))), "\"" + text + "\"");
}

TEST(FormatValueTest, ArraysAreShortened) {
  const GgufValue numbers = GgufArray(std::vector<int32_t>{-1, 2, 3});
  EXPECT_EQ(FormatValue(numbers), "[-1, 2, 3]");
  EXPECT_EQ(FormatValue(numbers, 2), "[-1, 2, ... 3 in all]");
  EXPECT_EQ(FormatValue(numbers, 0), "[... 3 in all]");
  EXPECT_EQ(FormatValue(GgufArray(std::vector<bool>{true, false})), "[true, false]");
  EXPECT_EQ(FormatValue(GgufArray(std::vector<uint8_t>{})), "[]");
  const std::string text(100, 'x');
  EXPECT_EQ(FormatValue(GgufArray(std::vector<absl::string_view>{"a\n", text})),
            "[\"a\\x0a\", \"" + text.substr(0, 48) + "...\"]");
}

}  // namespace
}  // namespace tandem::engine
