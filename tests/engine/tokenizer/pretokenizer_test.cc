#include "engine/tokenizer/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "engine/tokenizer/pretokenizer_patterns.h"

namespace tandem::engine {
namespace {

// The words joined by "|".
std::string Words(absl::string_view name, absl::string_view text) {
  const auto pretokenizer = Pretokenizer::Create(name);
  EXPECT_TRUE(pretokenizer.ok()) << pretokenizer.status();
  return pretokenizer.ok() ? absl::StrJoin((*pretokenizer)->Split(text), "|") : "";
}

TEST(PretokenizerTest, Gpt2KeepsTheSpaceWithTheNextWordAndSplitsContractions) {
  EXPECT_EQ(Words("gpt-2", "Hello  world, it's 2024!\n"), "Hello| | world|,| it|'s| 2024|!|\n");
}

TEST(PretokenizerTest, Llama3TakesThreeDigitsAndAnyCaseOfContractions) {
  EXPECT_EQ(Words("llama-bpe", "IT'S 12345!!\n\n x"), "IT|'S| |123|45|!!\n\n| x");
}

TEST(PretokenizerTest, Qwen2TakesOneDigit) { EXPECT_EQ(Words("qwen2", "a12 (b)"), "a|1|2| (|b|)"); }

TEST(PretokenizerTest, Gpt4oSplitsWhereUpperCaseStartsAgain) {
  EXPECT_EQ(Words("gpt-4o", "CamelCase it's XMLDoc/\n"), "Camel|Case| it's| XMLDoc|/\n");
}

TEST(PretokenizerTest, TekkenTakesOneDigitAndNoContraction) { EXPECT_EQ(Words("tekken", "it's 12"), "it|'s| |1|2"); }

TEST(PretokenizerTest, Deepseek3SplitsHanAndThreeDigits) {
  EXPECT_EQ(Words("deepseek-v3",
                  "abc\xE4\xBD\xA0\xE5\xA5\xBD"
                  "1234"),
            "abc|\xE4\xBD\xA0\xE5\xA5\xBD|123|4");
}

TEST(PretokenizerTest, InvalidUtf8IsAWordByItself) {
  EXPECT_EQ(Words("gpt-2",
                  "ab\xFF\x80"
                  "cd\xC3"),
            "ab|\xFF\x80|cd|\xC3");
}

TEST(PretokenizerTest, WhiteSpaceIsUnicodes) {
  // U+3000 is white space, U+180E and U+200B are not.
  EXPECT_EQ(Words("gpt-2",
                  "a\xE3\x80\x80\xE3\x80\x80"
                  "b"),
            "a|\xE3\x80\x80|\xE3\x80\x80|b");
  EXPECT_EQ(Words("gpt-2", "a\xE1\xA0\x8E\xE2\x80\x8B"), "a|\xE1\xA0\x8E\xE2\x80\x8B");
}

TEST(PretokenizerTest, WordsOfEveryNameAreTheText) {
  const std::string text = "A b\xC3\xA9\t12345 \xE4\xBD\xA0 \n\n x's \xFF __  \xF0\x9F\x98\x80\r\n ";
  for (const absl::string_view name : KnownPretokenizers()) {
    const auto pretokenizer = Pretokenizer::Create(name);
    ASSERT_TRUE(pretokenizer.ok()) << name << ": " << pretokenizer.status();
    const auto words = (*pretokenizer)->Split(text);
    EXPECT_EQ(absl::StrJoin(words, ""), text) << name;
    for (const absl::string_view word : words) EXPECT_FALSE(word.empty()) << name;
    EXPECT_TRUE((*pretokenizer)->Split("").empty()) << name;
  }
}

// Quadratic work would take minutes: the time limit of the test would end it.
TEST(PretokenizerTest, LongRunsAreLinearForEveryName) {
  constexpr size_t kBytes = 300'000;
  std::string mixed;
  while (mixed.size() < kBytes) mixed += " \n\t";
  for (const absl::string_view name : KnownPretokenizers()) {
    const auto pretokenizer = Pretokenizer::Create(name);
    ASSERT_TRUE(pretokenizer.ok());
    for (const std::string& text :
         {std::string(kBytes, 'a'), std::string(kBytes, ' '), std::string(kBytes, ' ') + "\xE4\xBD\xA0",
          std::string(kBytes, '1'), std::string(kBytes, '!'), std::string(kBytes, '\n') + "x", std::string(kBytes, 'A'),
          mixed + "\xE4\xBD\xA0"}) {
      EXPECT_EQ(absl::StrJoin((*pretokenizer)->Split(text), "").size(), text.size()) << name;
    }
  }
}

}  // namespace
}  // namespace tandem::engine
