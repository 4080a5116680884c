#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/tokenizer/word_normalizer.h"
#include "tests/engine/tokenizer/vocab_builder.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;

const std::string kSpace = "\xE2\x96\x81";

std::string Words(absl::string_view text, bool lower_case = true, bool strip_accents = true) {
  const NormalizedWords words = NormalizeWords(text, lower_case, strip_accents);
  std::vector<std::string> list;
  size_t begin = 0;
  for (const size_t end : words.ends) {
    list.push_back(words.text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, words.text.size());
  return absl::StrJoin(list, "|");
}

// The cases that BERT's own tokenization_test.py publishes.
TEST(WordNormalizerTest, PublishedCases) {
  EXPECT_EQ(Words(" \tHeLLo!how  \n Are yoU?  "), "hello|!|how|are|you|?");
  EXPECT_EQ(Words("H\xC3\xA9llo"), "hello");
  EXPECT_EQ(Words(" \tHeLLo!how  \n Are yoU?  ", false, false), "HeLLo|!|how|Are|yoU|?");
  EXPECT_EQ(Words("ah\xE5\x8D\x9A\xE6\x8E\xA8zz"), "ah|\xE5\x8D\x9A|\xE6\x8E\xA8|zz");
}

TEST(WordNormalizerTest, EachKindOfCharacter) {
  EXPECT_EQ(Words("a$b^c\xE2\x80\x94"
                  "d"),
            "a|$|b|^|c|\xE2\x80\x94|d");
  EXPECT_EQ(Words("a\xC2\xA0"
                  "b\xE3\x80\x80"
                  "c"),
            "a|b|c");
  EXPECT_EQ(Words(std::string("a\0b\x7F"
                              "c\xEF\xBF\xBD"
                              "d\xFF"
                              "e\xE2\x80\x8B"
                              "f\xE2\x80",
                              17)),
            "abcdef");
  EXPECT_EQ(Words("\xC3\x89"
                  "A",
                  true, false),
            "\xC3\xA9"
            "a");
  EXPECT_EQ(Words("\xC3\x89"
                  "A",
                  false, true),
            "EA");
  EXPECT_EQ(Words("e\xCC\x81\xC7\x96"), "eu");  // a mark by itself; two marks on one letter
  EXPECT_EQ(Words("\xED\x95\x9C"), "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");  // Hangul falls into its letters
  EXPECT_EQ(Words(""), "");
  EXPECT_EQ(Words(" \n"), "");
}

// The vocabulary of the published test, spelled as in model files.
VocabBuilder Bert() {
  VocabBuilder builder("bert");
  builder.Add("[UNK]", TokenType::kUnknown).Add("[CLS]", TokenType::kControl).Add("[SEP]", TokenType::kControl);
  for (const char* piece : {"want", "##want", "##ed", "wa", "un", "runn", "##ing", ","}) {
    const absl::string_view p = piece;
    builder.Add(p.substr(0, 2) == "##" ? std::string(p.substr(2)) : absl::StrCat(kSpace, p));
  }
  builder.metadata().SetUint32("tokenizer.ggml.cls_token_id", 1);
  builder.metadata().SetUint32("tokenizer.ggml.seperator_token_id", 2);
  return builder;
}

TEST(WordPieceTokenizerTest, PublishedCases) {
  const auto tokenizer = Bert().BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("UNwant\xC3\xA9"
                                "d,running",
                                {}),
              ElementsAre(7, 4, 5, 10, 8, 9));
  EXPECT_THAT(tokenizer->Encode("unwanted running", {}), ElementsAre(7, 4, 5, 8, 9));
  EXPECT_THAT(tokenizer->Encode("unwantedX running", {}), ElementsAre(0, 8, 9));
}

TEST(WordPieceTokenizerTest, SpecialTokensFollowTheFlags) {
  const auto tokenizer = Bert().BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("wa", {.add_special = true}), ElementsAre(1, 6, 2));
  EXPECT_THAT(tokenizer->Encode("wa[SEP]wa", {.parse_special = true}), ElementsAre(6, 2, 6));
  EXPECT_THAT(tokenizer->Encode("[SEP]", {}), ElementsAre(0, 0, 0));  // three words
  VocabBuilder bare = Bert();
  bare.metadata().SetBool("tokenizer.ggml.add_bos_token", false);
  bare.metadata().SetBool("tokenizer.ggml.add_sep_token", false);
  EXPECT_THAT(bare.BuildOrDie()->Encode("wa", {.add_special = true}), ElementsAre(6));
}

TEST(WordPieceTokenizerTest, FilesWithoutIdsMeanBertsOwn) {
  VocabBuilder builder("bert");
  for (int i = 0; i < 100; ++i) builder.Add(absl::StrCat("[unused", i, "]"), TokenType::kUnused);
  builder.Add("[UNK]").Add("[CLS]", TokenType::kControl).Add("[SEP]", TokenType::kControl).Add(kSpace + "a");
  EXPECT_THAT(builder.BuildOrDie()->Encode("a b", {.add_special = true}), ElementsAre(101, 103, 100, 102));
}

TEST(WordPieceTokenizerTest, TheFileTurnsLowerCaseAndAccentsOff) {
  VocabBuilder cased = Bert();
  cased.Add(kSpace + "\xC3\x89").metadata().SetBool("tokenizer.ggml.normalizer.lowercase", false);
  EXPECT_THAT(cased.BuildOrDie()->Encode("\xC3\x89 wa WA", {}), ElementsAre(11, 6, 0));
  VocabBuilder accents = Bert();
  accents.Add(kSpace + "\xC3\xA9").metadata().SetBool("tokenizer.ggml.normalizer.strip_accents", false);
  EXPECT_THAT(accents.BuildOrDie()->Encode("\xC3\x89", {}), ElementsAre(11));
}

TEST(WordPieceTokenizerTest, TextComesBackWithSpacesBetweenWords) {
  const auto tokenizer = Bert().BuildOrDie();
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("Unwanted,  running\n", {.add_special = true})), "unwanted, running");
  EXPECT_EQ(tokenizer->Decode({1, 6, 2}, true), "[CLS] wa[SEP]");
  StreamDecoder decoder(*tokenizer, /*at_text_start=*/true);
  std::string streamed;
  for (const TokenId id : {1, 7, 5, 10, 6}) streamed += decoder.Push(id);
  EXPECT_EQ(streamed, "uned, wa");
}

TEST(WordPieceTokenizerTest, AMegabyteWithoutSpacesIsNotQuadratic) {
  const auto tokenizer = Bert().Add(kSpace + "a").Add("aaaaaaaa").Add("a").BuildOrDie();
  EXPECT_EQ(tokenizer->Encode(std::string((1 << 20) + 1, 'a'), {}).size(), (size_t{1} << 17) + 1);
  EXPECT_THAT(tokenizer->Encode(std::string(1 << 20, 'a') + "q", {}), ElementsAre(0));
}

// Against the plainest statement: try every length from the longest.
TEST(WordPieceTokenizerTest, RandomVocabulariesAndWords) {
  std::mt19937 random(3);
  size_t known_words = 0;
  for (int round = 0; round < 100; ++round) {
    VocabBuilder builder("bert");
    builder.Add("[UNK]", TokenType::kUnknown);
    std::map<std::string, TokenId> ids;
    const auto letters = [&random](size_t max) {
      std::string text;
      static const char* const kLetters[] = {"a", "b", "\xC3\xA6"};
      for (size_t n = 1 + random() % max; n > 0; --n) text += kLetters[random() % 3];
      return text;
    };
    for (int i = 0; i < 25; ++i) {
      const std::string spelling = (i % 2 == 0 ? kSpace : "") + letters(4);
      if (!ids.try_emplace(spelling, builder.size()).second) continue;
      builder.Add(spelling);
    }
    const auto tokenizer = builder.BuildOrDie();
    for (int sample = 0; sample < 30; ++sample) {
      const std::string word = Words(letters(9));
      std::vector<TokenId> expected;
      for (std::string rest = kSpace + word; !rest.empty();) {
        size_t bytes = rest.size();
        while (bytes > 0 && !ids.contains(rest.substr(0, bytes))) --bytes;
        if (bytes == 0) {
          expected = {0};
          break;
        }
        expected.push_back(ids[rest.substr(0, bytes)]);
        rest = rest.substr(bytes);
      }
      known_words += expected != std::vector<TokenId>{0};
      ASSERT_EQ(tokenizer->Encode(word, {}), expected) << word;
    }
  }
  EXPECT_GT(known_words, 500u);
}

}  // namespace
}  // namespace tandem::engine
