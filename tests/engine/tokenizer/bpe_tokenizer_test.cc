#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "tests/engine/tokenizer/vocab_builder.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ids: 0..255 bytes, then what the test adds.
VocabBuilder Bpe(const std::string& pre = "gpt-2") {
  VocabBuilder builder("gpt2");
  builder.AddByteAlphabet();
  builder.metadata().SetString("tokenizer.ggml.pre", pre);
  return builder;
}
constexpr TokenId kFirst = 256;

TEST(BpeTokenizerTest, MergesTheFirstInTheList) {
  const auto tokenizer = Bpe().MergeToken("b", "c").MergeToken("a", "b").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre('a', kFirst));
  EXPECT_THAT(tokenizer->Encode("ab", {}), ElementsAre(kFirst + 1));
}

TEST(BpeTokenizerTest, MergesTheLeftmostOfEqualPairs) {
  const auto tokenizer = Bpe().MergeToken("a", "a").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("aaa", {}), ElementsAre(kFirst, 'a'));
}

TEST(BpeTokenizerTest, MergesBuildOnMerges) {
  const auto tokenizer = Bpe().MergeToken("a", "b").MergeToken("ab", "ab").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("ababab", {}), ElementsAre(kFirst + 1, kFirst));
}

TEST(BpeTokenizerTest, WordsDoNotMergeAcrossTheirBorders) {
  const std::string space = "\xC4\xA0";
  const auto tokenizer = Bpe().MergeToken("a", space).MergeToken(space, "b").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("a b", {}), ElementsAre('a', kFirst + 1));
}

TEST(BpeTokenizerTest, AMergedStringWithoutATokenFallsBackToItsBytes) {
  const auto tokenizer = Bpe().Merge("a", "b").MergeToken("ab", "c").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("ab", {}), ElementsAre('a', 'b'));
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre(kFirst));
}

TEST(BpeTokenizerTest, APairListedTwiceKeepsItsFirstRank) {
  const auto tokenizer = Bpe().MergeToken("a", "b").MergeToken("b", "c").Merge("a", "b").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre(kFirst, 'c'));
}

TEST(BpeTokenizerTest, IgnoreMergesTakesAWordThatIsAToken) {
  const auto merging = Bpe("qwen2").Add("abc").MergeToken("a", "b").BuildOrDie();
  EXPECT_THAT(merging->Encode("abc", {}), ElementsAre(kFirst + 1, 'c'));
  VocabBuilder builder = Bpe("llama-bpe");
  builder.Add("abc").MergeToken("a", "b").Add("<b>", TokenType::kControl);
  builder.metadata().SetUint32("tokenizer.ggml.bos_token_id", kFirst + 2);
  const auto whole = builder.BuildOrDie();
  EXPECT_THAT(whole->Encode("abc", {}), ElementsAre(kFirst));
  EXPECT_THAT(whole->Encode("a", {.add_special = true}), ElementsAre(kFirst + 2, 'a'));  // its default
}

TEST(BpeTokenizerTest, BytesWithoutATokenBecomeUnknownOrVanish) {
  VocabBuilder builder("gpt2");
  builder.Add("a").Add("<unk>", TokenType::kUnknown);
  EXPECT_THAT(builder.BuildOrDie()->Encode("axa", {}), ElementsAre(0, 1, 0));
  EXPECT_THAT(VocabBuilder("gpt2").Add("a").BuildOrDie()->Encode("xa", {}), ElementsAre(0));
}

TEST(BpeTokenizerTest, RoundTripsAnyBytes) {
  const auto tokenizer = Bpe().MergeToken("a", "b").BuildOrDie();
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string text(random() % 64, '\0');
    for (char& c : text) c = static_cast<char>(random());
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, {})), text);
  }
  EXPECT_THAT(tokenizer->Encode("", {.add_special = true}), IsEmpty());
}

TEST(BpeTokenizerTest, UserDefinedTokensAlwaysAndControlTokensOnDemand) {
  const auto tokenizer = Bpe()
                             .Add("<c>", TokenType::kControl)
                             .Add("<u>", TokenType::kUserDefined)
                             .Add("<u>x", TokenType::kUserDefined)
                             .BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("<c>", {}), ElementsAre('<', 'c', '>'));
  EXPECT_THAT(tokenizer->Encode("<c>", {.parse_special = true}), ElementsAre(kFirst));
  EXPECT_THAT(tokenizer->Encode("a<u>", {}), ElementsAre('a', kFirst + 1));
  EXPECT_THAT(tokenizer->Encode("<u>xx", {}), ElementsAre(kFirst + 2, 'x'));  // the longest wins
  EXPECT_THAT(tokenizer->Encode("<u<u>", {}), ElementsAre('<', 'u', kFirst + 1));
  EXPECT_EQ(tokenizer->Decode({kFirst, 'a'}), "a");
  EXPECT_EQ(tokenizer->Decode({kFirst, 'a'}, true), "<c>a");
}

TEST(BpeTokenizerTest, AMegabyteWithoutSpacesIsNotQuadratic) {
  VocabBuilder builder = Bpe();
  std::string run = "a";
  for (int i = 0; i < 4; ++i, run += run) builder.MergeToken(run, run);
  const auto tokenizer = builder.BuildOrDie();
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'a'), {}).size(), size_t{1} << 16);
}

TEST(BpeTokenizerTest, BadMergesAreInvalid) {
  for (const char* merge : {"", "a", " a", "a ", "a b c", " "}) {
    VocabBuilder builder = Bpe();
    builder.with_merges = false;
    builder.metadata().SetStrings("tokenizer.ggml.merges", std::vector<std::string>{"a b", merge});
    const auto tokenizer = builder.Build();
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << merge;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("tokenizer.ggml.merges[1]")) << merge;
  }
  VocabBuilder missing = Bpe();
  missing.with_merges = false;
  EXPECT_EQ(missing.Build().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(BpeTokenizerTest, AnUnknownPretokenizerIsUnimplementedAndNamed) {
  const auto tokenizer = Bpe("lama-bpe").Build();
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("\"lama-bpe\""));
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("\"llama-bpe\""));
}

TEST(BundledModelTest, RoundTripsTextAndBytes) {
  const std::filesystem::path path = std::filesystem::path(TANDEM_SOURCE_DIR) / "models" / "tandem-demo.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "not trained yet: " << path;
  const auto file = GgufFile::Open(path.string());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = Tokenizer::Create(**file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  for (const std::string& text : {std::string("Once upon a time, there was a tiny robot."),
                                  std::string("na\xC3\xAFve \xE6\x97\xA5\n\n  12345 it's\t"), all}) {
    EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode(text, {})), text);
  }
  const auto turn = (*tokenizer)->Encode("<|im_end|>", {.parse_special = true});
  ASSERT_EQ(turn.size(), 1u);
  EXPECT_TRUE((*tokenizer)->IsEndOfGeneration(turn[0]));
}

}  // namespace
}  // namespace tandem::engine
