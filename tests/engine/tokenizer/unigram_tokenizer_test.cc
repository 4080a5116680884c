#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

#include "absl/strings/str_join.h"
#include "engine/tokenizer/charsmap.h"
#include "tests/engine/tokenizer/charsmap_builder.h"
#include "tests/engine/tokenizer/vocab_builder.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kSpace = "\xE2\x96\x81";

// ids: 0 <pad>, 1 </s>, 2 <unk>, then what the test adds.
VocabBuilder T5() {
  VocabBuilder builder("t5");
  builder.Add("<pad>", TokenType::kControl).Add("</s>", TokenType::kControl).Add("<unk>", TokenType::kUnknown);
  return builder;
}
constexpr TokenId kFirst = 3;

VocabBuilder WithSpaces() {
  VocabBuilder builder = T5();
  builder.metadata().SetBool("tokenizer.ggml.add_space_prefix", true);
  builder.metadata().SetBool("tokenizer.ggml.remove_extra_whitespaces", true);
  return builder;
}

TEST(UnigramTokenizerTest, TakesTheGreatestSumNotTheLongestToken) {
  const auto tokenizer = T5().Add("a", TokenType::kNormal, -5)
                             .Add("b", TokenType::kNormal, -5)
                             .Add("ab", TokenType::kNormal, -4)
                             .Add("abc", TokenType::kNormal, -9)
                             .Add("c", TokenType::kNormal, -4)
                             .Add("bc", TokenType::kNormal, -2)
                             .BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre(kFirst, kFirst + 5));  // -7 beats -8 and -9
  EXPECT_THAT(tokenizer->Encode("ab", {}), ElementsAre(kFirst + 2));
}

TEST(UnigramTokenizerTest, ARunOfUnknownCharactersIsOneUnknownToken) {
  const auto tokenizer = T5().Add("a", TokenType::kNormal, -1).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("axyza\xE4\xBD\xA0", {}), ElementsAre(kFirst, 2, kFirst, 2));
  EXPECT_EQ(tokenizer->Decode({kFirst, 2, kFirst}), "aa");
}

TEST(UnigramTokenizerTest, AnUnknownCharacterCostsTenMoreThanTheWorstToken) {
  // "ab" at -30 against a (-1) and an unknown b (-30 - 10).
  const auto tokenizer = T5().Add("a", TokenType::kNormal, -1)
                             .Add("ab", TokenType::kNormal, -30)
                             .Add("xb", TokenType::kNormal, -2)
                             .BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("ab", {}), ElementsAre(kFirst + 1));
}

TEST(UnigramTokenizerTest, SpacesAreMergedEscapedAndPutInFront) {
  const auto tokenizer =
      WithSpaces().Add(kSpace + "a", TokenType::kNormal, -1).Add(kSpace, TokenType::kNormal, -2).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("  a   a ", {}), ElementsAre(kFirst, kFirst));
  EXPECT_THAT(tokenizer->Encode("   ", {}), IsEmpty());
  EXPECT_EQ(tokenizer->Decode({kFirst, kFirst}), "a a");
  const auto plain = T5().Add("a", TokenType::kNormal, -1).Add(kSpace, TokenType::kNormal, -2).BuildOrDie();
  EXPECT_THAT(plain->Encode(" a  a", {}), ElementsAre(kFirst + 1, kFirst, kFirst + 1, kFirst + 1, kFirst));
  EXPECT_EQ(plain->Decode(plain->Encode(" a  a", {})), " a  a");
}

TEST(UnigramTokenizerTest, SpecialTokensFollowTheFlags) {
  const auto tokenizer = T5().Add("a", TokenType::kNormal, -1).Add("<x>", TokenType::kUserDefined, -50).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("a", {.add_special = true}), ElementsAre(kFirst, 1));
  EXPECT_THAT(tokenizer->Encode("a</s>", {.parse_special = true}), ElementsAre(kFirst, 1));
  EXPECT_THAT(tokenizer->Encode("a<x>a", {}), ElementsAre(kFirst, kFirst + 1, kFirst));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(1));
  VocabBuilder without = T5();
  without.Add("a").metadata().SetBool("tokenizer.ggml.add_eos_token", false);
  EXPECT_THAT(without.BuildOrDie()->Encode("a", {.add_special = true}), ElementsAre(kFirst));
}

TEST(UnigramTokenizerTest, AMegabyteIsNotQuadratic) {
  const auto tokenizer =
      T5().Add("a", TokenType::kNormal, -3).Add(std::string(16, 'a'), TokenType::kNormal, -4).BuildOrDie();
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'a'), {}).size(), size_t{1} << 16);
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'b'), {}).size(), 1u);
}

// Against every way to cut the text. Scores are multiples of 1/8, so sums are exact.
TEST(UnigramTokenizerTest, RandomVocabulariesAgainstEverySegmentation) {
  std::mt19937 random(5);
  static const char* const kLetters[] = {"a", "b", "\xC3\xA9"};
  for (int round = 0; round < 150; ++round) {
    VocabBuilder builder = T5();
    std::map<std::string, double> scores;
    for (size_t i = 0; i < 20; ++i) {
      std::string spelling = i < 3 ? kLetters[i] : "";
      for (size_t n = i < 3 ? 0 : 1 + random() % 4; n > 0; --n) spelling += kLetters[random() % 3];
      const double score = -static_cast<double>(random() % 200) / 8;
      if (!scores.try_emplace(spelling, score).second) continue;
      builder.Add(spelling, TokenType::kNormal, static_cast<float>(score));
    }
    const auto tokenizer = builder.BuildOrDie();
    for (int sample = 0; sample < 10; ++sample) {
      std::vector<std::string> letters;
      for (size_t n = 1 + random() % 10; n > 0; --n) letters.push_back(kLetters[random() % 3]);
      const auto best = [&](const auto& self, size_t begin) -> double {
        if (begin == letters.size()) return 0;
        double sum = -std::numeric_limits<double>::infinity();
        std::string piece;
        for (size_t end = begin; end < letters.size(); ++end) {
          piece += letters[end];
          const auto it = scores.find(piece);
          if (it != scores.end()) sum = std::max(sum, it->second + self(self, end + 1));
        }
        return sum;
      };
      const std::string text = absl::StrJoin(letters, "");
      std::string spelled;
      double sum = 0;
      for (const TokenId id : tokenizer->Encode(text, {})) {
        spelled += tokenizer->Piece(id);
        sum += scores.at(tokenizer->Piece(id));
      }
      ASSERT_EQ(spelled, text);
      ASSERT_EQ(sum, best(best, 0)) << text;
    }
  }
}

TEST(CharsmapTest, ReplacesTheLongestKey) {
  const std::string bytes =
      CharsmapBuilder({{"\xEF\xBD\x81", "a"}, {"\xEF\xBD\x81\xEF\xBD\x82", "AB"}, {"\t", " "}, {"\xC2\xAD", ""}})
          .bytes();
  const auto map = Charsmap::Parse(bytes);
  ASSERT_TRUE(map.ok()) << map.status();
  const auto match = [&](absl::string_view text) {
    const Charsmap::Match found = map->LongestMatch(text);
    return std::pair(found.bytes, std::string(found.replacement));
  };
  EXPECT_EQ(match("\xEF\xBD\x81\xEF\xBD\x82z"), std::pair(size_t{6}, std::string("AB")));
  EXPECT_EQ(match("\xEF\xBD\x81\xEF\xBD\x83"), std::pair(size_t{3}, std::string("a")));
  EXPECT_EQ(match("\tx"), std::pair(size_t{1}, std::string(" ")));
  EXPECT_EQ(match("\xC2\xAD"), std::pair(size_t{2}, std::string()));
  EXPECT_EQ(match("x"), std::pair(size_t{0}, std::string()));
  EXPECT_EQ(match(absl::string_view("\0", 1)), std::pair(size_t{0}, std::string()));
  EXPECT_EQ(match(""), std::pair(size_t{0}, std::string()));
}

// The example of SentencePiece's documentation of its normalisation: full-width letters and spaces.
TEST(CharsmapTest, NormalisesBeforeTheSearch) {
  std::map<std::string, std::string> pairs = {{"\xE3\x80\x80", " "}};
  for (char c = 'A'; c <= 'Z'; ++c)
    pairs[std::string("\xEF\xBC") + static_cast<char>(0xA1 + c - 'A')] = std::string(1, c);
  VocabBuilder builder = WithSpaces();
  builder.Add(kSpace + "KADOKAWA", TokenType::kNormal, -1).Add(kSpace + "ABC", TokenType::kNormal, -1);
  builder.Add("\xEF\xBF\xBD", TokenType::kNormal, -1);
  builder.metadata().SetInt32s("tokenizer.ggml.precompiled_charsmap", CharsmapBuilder(pairs).Array());
  const auto tokenizer = builder.BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("\xEF\xBC\xAB\xEF\xBC\xA1\xEF\xBC\xA4\xEF\xBC\xAF\xEF\xBC\xAB\xEF\xBC\xA1\xEF\xBC\xB7"
                                "\xEF\xBC\xA1\xE3\x80\x80 ABC ",
                                {}),
              ElementsAre(kFirst, kFirst + 1));
  EXPECT_THAT(tokenizer->Encode("ABC\xFF", {}), ElementsAre(kFirst + 1, kFirst + 2));
}

TEST(CharsmapTest, BadTablesAreInvalidAndNeverFollowedOutside) {
  const auto message = [](const std::vector<int32_t>& bytes) {
    VocabBuilder builder = T5();
    builder.metadata().SetInt32s("tokenizer.ggml.precompiled_charsmap", bytes);
    const auto tokenizer = builder.Build();
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(tokenizer.status().message());
  };
  EXPECT_THAT(message({1, 2}), HasSubstr("precompiled_charsmap has 2 bytes"));
  EXPECT_THAT(message({8, 0, 0, 0, 1, 1, 1, 1}), HasSubstr("trie has 8 bytes"));
  EXPECT_THAT(message({0, 0, 0, 0}), HasSubstr("trie has 0 bytes"));
  EXPECT_THAT(message({4, 0, 0, 0, 1, 1, 1, 1, 'x'}), HasSubstr("zero byte"));
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes("\x40\0\0\0", 4);
    for (int i = 0; i < 0x40; ++i) bytes.push_back(static_cast<char>(random() % 4 == 0 ? random() : random() % 8));
    bytes += std::string("ab\0c\0", 5);
    const auto map = Charsmap::Parse(bytes);
    ASSERT_TRUE(map.ok());
    std::string text;
    for (int i = 0; i < 8; ++i) text.push_back(static_cast<char>(random() % 16));
    EXPECT_LE(map->LongestMatch(text).bytes, text.size());
  }
}

TEST(UnigramTokenizerTest, BadScoresAreInvalid) {
  const auto infinite = T5().Add("a", TokenType::kNormal, std::numeric_limits<float>::infinity()).Build();
  EXPECT_THAT(std::string(infinite.status().message()), HasSubstr("tokenizer.ggml.scores[3]"));
  VocabBuilder missing = T5();
  missing.with_scores = false;
  EXPECT_THAT(std::string(missing.Build().status().message()), HasSubstr("tokenizer.ggml.scores"));
}

}  // namespace
}  // namespace tandem::engine
