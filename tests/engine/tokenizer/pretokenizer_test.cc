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

TEST(PretokenizerTest, Qwen35KeepsMarksWithTheirLetters) {
  const std::string acute = "\xCC\x81";
  EXPECT_EQ(Words("qwen35", "e" + acute + "a 1"), "e" + acute + "a| |1");
  EXPECT_EQ(Words("qwen2", "e" + acute + "a 1"), "e|" + acute + "a| |1");
}

TEST(PretokenizerTest, DigitsFromTheRight) {
  EXPECT_EQ(Words("superbpe", "a 1234567b 12 345"), "a |1|234|567|b |12| |345");
  EXPECT_EQ(Words("afmoe", "1234 a12345"), "1|234| a|12|345");
  EXPECT_EQ(Words("superbpe", "\xD9\xA1\xD9\xA2\xD9\xA3\xD9\xA4"), "\xD9\xA1|\xD9\xA2\xD9\xA3\xD9\xA4");
  // Tiny Aya groups from the right only where the digits end a word.
  EXPECT_EQ(Words("tiny_aya", "1234567 1234x"), "1|234|567| |123|4|x");
}

TEST(PretokenizerTest, KimiK2SplitsHanFromOtherLetters) {
  EXPECT_EQ(Words("kimi-k2",
                  "abc\xE4\xBD\xA0\xE5\xA5\xBD"
                  "DEf's 1234 \xE4\xBD\xA0\xC3\xA9t\xC3\xA9 x!!\n"),
            "abc|\xE4\xBD\xA0\xE5\xA5\xBD|DEf's| |123|4| |\xE4\xBD\xA0|\xC3\xA9t\xC3\xA9| x|!!\n");
}

TEST(PretokenizerTest, Jais2CutsWhiteSpaceInPowersOfTwo) {
  const auto spaces = [](size_t n) { return std::string(n, ' '); };
  EXPECT_EQ(Words("jais-2", "a" + spaces(8) + "b"), "a|" + spaces(4) + "|" + spaces(2) + "|" + spaces(1) + "| b");
  EXPECT_EQ(Words("jais-2", spaces(1030)), spaces(512) + "|" + spaces(512) + "|" + spaces(4) + "|" + spaces(2));
  EXPECT_EQ(Words("jais-2", "a  \n  \n b"), "a|  \n  \n| b");
}

TEST(PretokenizerTest, ChameleonTakesImagesSingleDigitsAndSigns) {
  EXPECT_EQ(Words("chameleon", "aIMGIMGABCZ  x!! 12"), "a|IMGIMGABCZ|  |x|!|!| |1|2");
}

TEST(PretokenizerTest, ExaoneMoeKeepsWordsWithSingleSpacesTogether) {
  EXPECT_EQ(Words("exaone-moe", "one two  three, 4"), "one two| | three|,| |4");
  std::string prose;
  while (prose.size() < 100'000) prose += " word";
  EXPECT_EQ(Words("exaone-moe", prose), prose);
}

TEST(PretokenizerTest, PoroAndVikingSplitAtSentenceSigns) {
  EXPECT_EQ(Words("poro-chat", "one, two.12"), "one|,| two|.|12");
  EXPECT_EQ(Words("viking", "one, two.12"), "one|,| two|.|1|2");
}

TEST(PretokenizerTest, OthersThatDifferInOneThing) {
  EXPECT_EQ(Words("ufakzeka", "Ali'nin 12"), "Ali|'nin| |1|2");
  EXPECT_EQ(Words("qwen2", "it's !\n\n"), "it|'s| !\n\n");
  EXPECT_EQ(Words("seed-coder", "it's !\n\n"), "it|'s| !|\n\n");
  EXPECT_EQ(Words("laguna", "a !\n\nb"), "a| !|\n\n|b");
  EXPECT_EQ(Words("bailingmoe", "it's a1"), "it|'s| a|1");
  EXPECT_EQ(Words("minicpm5", "a 12345"), "a| |123|45");
  EXPECT_EQ(Words("spark2_5", "a!\n\n12"), "a|!|\n|\n|1|2");
  EXPECT_EQ(Words("youtu",
                  "\xEA\xB0\x80"
                  "a12"),
            "\xEA\xB0\x80|a|1|2");
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
  ASSERT_GE(KnownPretokenizers().size(), 80u);
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
