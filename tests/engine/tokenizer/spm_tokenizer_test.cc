#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/tokenizer/utf8.h"
#include "tests/engine/tokenizer/vocab_builder.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kSpace = "\xE2\x96\x81";

// ids: 0 <unk>, 1 <s>, 2 </s>, 3..258 bytes, then what the test adds.
VocabBuilder Llama() {
  VocabBuilder builder("llama");
  builder.Add("<unk>", TokenType::kUnknown).Add("<s>", TokenType::kControl).Add("</s>", TokenType::kControl);
  builder.AddByteTokens();
  builder.metadata().SetUint32("tokenizer.ggml.bos_token_id", 1);
  builder.metadata().SetUint32("tokenizer.ggml.eos_token_id", 2);
  return builder;
}
constexpr TokenId kFirstByte = 3;
constexpr TokenId kFirst = 259;

VocabBuilder WithoutPrefix() {
  VocabBuilder builder = Llama();
  builder.metadata().SetBool("tokenizer.ggml.add_space_prefix", false);
  return builder;
}

TEST(SpmTokenizerTest, MergesTheHighestScoreFirst) {
  const auto tokenizer = WithoutPrefix()
                             .Add("a")
                             .Add("b")
                             .Add("c")
                             .Add("ab", TokenType::kNormal, -2)
                             .Add("bc", TokenType::kNormal, -1)
                             .BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre(kFirst, kFirst + 4));
}

TEST(SpmTokenizerTest, MergesTheLeftmostOfEqualScores) {
  const auto tokenizer = WithoutPrefix().Add("a").Add("aa", TokenType::kNormal, -1).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("aaa", {}), ElementsAre(kFirst + 1, kFirst));
  EXPECT_THAT(tokenizer->Encode("aaaaa", {}), ElementsAre(kFirst + 1, kFirst + 1, kFirst));
}

TEST(SpmTokenizerTest, MergesStepByStepOnly) {
  // "abc" is a token, but neither "ab" nor "bc" is: no pair leads there.
  const auto tokenizer = WithoutPrefix().Add("a").Add("b").Add("c").Add("abc", TokenType::kNormal, 5).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("abc", {}), ElementsAre(kFirst, kFirst + 1, kFirst + 2));
}

TEST(SpmTokenizerTest, EscapesSpacesAndAddsOneInFront) {
  const auto tokenizer = Llama().Add("a").Add(kSpace).Add(kSpace + "a", TokenType::kNormal, 1).BuildOrDie();
  EXPECT_TRUE(tokenizer->strips_leading_space());
  EXPECT_THAT(tokenizer->Encode("a a", {}), ElementsAre(kFirst + 2, kFirst + 2));
  EXPECT_THAT(tokenizer->Encode(" a", {}), ElementsAre(kFirst + 1, kFirst + 2));
  EXPECT_THAT(tokenizer->Encode("", {}), IsEmpty());
  EXPECT_EQ(tokenizer->Decode({kFirst + 2, kFirst + 2}), "a a");
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("  a", {})), "  a");
}

TEST(SpmTokenizerTest, TheFlagTurnsTheSpaceInFrontOff) {
  const auto tokenizer = WithoutPrefix().Add("a").Add(kSpace).BuildOrDie();
  EXPECT_FALSE(tokenizer->strips_leading_space());
  EXPECT_THAT(tokenizer->Encode("a a", {}), ElementsAre(kFirst, kFirst + 1, kFirst));
  EXPECT_EQ(tokenizer->Decode({kFirst + 1, kFirst}), " a");
}

TEST(SpmTokenizerTest, UnknownCharactersBecomeTheirBytes) {
  const auto tokenizer = WithoutPrefix().Add(kSpace).BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("\xC3\xA9", {}), ElementsAre(kFirstByte + 0xC3, kFirstByte + 0xA9));
  const std::string text("\xFF\x00 \x80 ok \xF0\x9F", 10);  // not UTF-8 either
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, {})), text);
}

TEST(SpmTokenizerTest, WithoutByteTokensACharacterIsOneUnknownToken) {
  VocabBuilder builder("llama");
  builder.Add("<unk>", TokenType::kUnknown).Add("a");
  builder.metadata().SetBool("tokenizer.ggml.add_space_prefix", false);
  const auto tokenizer = builder.BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("a\xE4\xBD\xA0z", {}), ElementsAre(1, 0, 0));
  EXPECT_EQ(tokenizer->Decode({1, 0}), "a");
  EXPECT_EQ(tokenizer->Decode({1, 0}, /*render_special=*/true), "a<unk>");
}

TEST(SpmTokenizerTest, SpecialTokensFollowTheFlags) {
  const auto tokenizer = WithoutPrefix().Add("a").BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("a", {.add_special = true}), ElementsAre(1, kFirst));
  EXPECT_EQ(tokenizer->Encode("</s>", {}).size(), 4u);  // as bytes
  EXPECT_THAT(tokenizer->Encode("a</s>a", {.parse_special = true}), ElementsAre(kFirst, 2, kFirst));
  VocabBuilder with_eos = WithoutPrefix();
  with_eos.Add("a").metadata().SetBool("tokenizer.ggml.add_eos_token", true);
  EXPECT_THAT(with_eos.BuildOrDie()->Encode("a", {.add_special = true}), ElementsAre(1, kFirst, 2));
  VocabBuilder without_bos = WithoutPrefix();
  without_bos.Add("a").metadata().SetBool("tokenizer.ggml.add_bos_token", false);
  EXPECT_THAT(without_bos.BuildOrDie()->Encode("a", {.add_special = true}), ElementsAre(kFirst));
}

TEST(SpmTokenizerTest, ASpaceFollowsEachSpecialToken) {
  const auto tokenizer = Llama().Add("a").Add(kSpace).Add("[X]", TokenType::kUserDefined).BuildOrDie();
  const TokenId a = kFirst, space = kFirst + 1, x = kFirst + 2;
  EXPECT_THAT(tokenizer->Encode("a[X]a", {}), ElementsAre(space, a, x, space, a));
}

TEST(SpmTokenizerTest, TextNeverBecomesAControlOrByteToken) {
  VocabBuilder builder = WithoutPrefix();
  for (const char* piece : {"<", "s", ">", "<s", "<0", "<0x", "<0x4", "<0x41", "0", "x", "4", "1"}) builder.Add(piece);
  const auto tokenizer = builder.BuildOrDie();
  EXPECT_THAT(tokenizer->Encode("<s>", {}), ElementsAre(kFirst + 3, kFirst + 2));
  EXPECT_THAT(tokenizer->Encode("<0x41>", {}), ElementsAre(kFirst + 7, kFirst + 2));
}

TEST(SpmTokenizerTest, PieceAndSpellingOfEveryType) {
  const auto tokenizer = Llama().Add(kSpace + "a").Add(kSpace + "u", TokenType::kUserDefined).BuildOrDie();
  EXPECT_EQ(tokenizer->Piece(1), "");
  EXPECT_EQ(tokenizer->Piece(1, true), "<s>");
  EXPECT_EQ(tokenizer->Piece(kFirstByte + 0xC3), "\xC3");
  EXPECT_EQ(tokenizer->Piece(kFirst), " a");
  EXPECT_EQ(tokenizer->Piece(kFirst + 1), kSpace + "u");  // literal
  EXPECT_EQ(tokenizer->Spelling(kFirst), kSpace + "a");
  for (const TokenId id : {-1, tokenizer->vocab_size(), std::numeric_limits<TokenId>::max()}) {
    EXPECT_EQ(tokenizer->Piece(id, true), "");
    EXPECT_EQ(tokenizer->Spelling(id), "");
    EXPECT_FALSE(tokenizer->IsEndOfGeneration(id));
  }
}

TEST(SpmTokenizerTest, AMegabyteWithoutSpacesIsNotQuadratic) {
  VocabBuilder builder = WithoutPrefix();
  std::string run = "a";
  for (int i = 0; i < 5; ++i, run += run) builder.Add(run, TokenType::kNormal, static_cast<float>(-i));
  const auto tokenizer = builder.BuildOrDie();
  const std::string text(1 << 20, 'a');
  const auto ids = tokenizer->Encode(text, {});
  EXPECT_EQ(ids.size(), text.size() / 16);
}

struct BadVocab {
  const char* what;
  const char* message;
  void (*spoil)(VocabBuilder&);
};
void PrintTo(const BadVocab& bad, std::ostream* os) { *os << bad.what; }

class SpmErrorTest : public testing::TestWithParam<BadVocab> {};

TEST_P(SpmErrorTest, NamesTheKey) {
  VocabBuilder builder = Llama();
  GetParam().spoil(builder);
  const auto tokenizer = builder.Build();
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Files, SpmErrorTest,
    testing::Values(BadVocab{"no tokens", "tokenizer.ggml.tokens", [](VocabBuilder& b) { b.with_tokens = false; }},
                    BadVocab{"no scores", "tokenizer.ggml.scores", [](VocabBuilder& b) { b.with_scores = false; }},
                    BadVocab{"short scores", "tokenizer.ggml.scores has 1 entries",
                             [](VocabBuilder& b) {
                               b.with_scores = false;
                               b.metadata().SetFloats("tokenizer.ggml.scores", std::vector<float>{1.0f});
                             }},
                    BadVocab{"score NaN", "tokenizer.ggml.scores[259]",
                             [](VocabBuilder& b) {
                               b.Add("x", TokenType::kNormal, std::numeric_limits<float>::quiet_NaN());
                             }},
                    BadVocab{"short types", "tokenizer.ggml.token_type has 1 entries",
                             [](VocabBuilder& b) {
                               b.with_types = false;
                               b.metadata().SetInt32s("tokenizer.ggml.token_type", std::vector<int32_t>{1});
                             }},
                    BadVocab{"type 7", "tokenizer.ggml.token_type[259] is 7",
                             [](VocabBuilder& b) { b.Add("x", static_cast<TokenType>(7)); }},
                    BadVocab{"eot out of range", "tokenizer.ggml.eot_token_id is 100000",
                             [](VocabBuilder& b) { b.metadata().SetUint32("tokenizer.ggml.eot_token_id", 100000); }},
                    BadVocab{"negative unk", "tokenizer.ggml.unknown_token_id is -2",
                             [](VocabBuilder& b) { b.metadata().SetInt32("tokenizer.ggml.unknown_token_id", -2); }},
                    BadVocab{"flag is no bool", "tokenizer.ggml.add_space_prefix",
                             [](VocabBuilder& b) { b.metadata().SetString("tokenizer.ggml.add_space_prefix", "yes"); }},
                    BadVocab{"byte token", "tokenizer.ggml.tokens[259]",
                             [](VocabBuilder& b) { b.Add("<0xZZ>", TokenType::kByte); }}));

TEST(TokenizerCreateTest, MissingKindIsInvalidAndUnknownKindUnimplemented) {
  const std::vector<std::byte> bytes = GgufWriter().Serialize();
  const auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(Tokenizer::Create(**file).status().code(), absl::StatusCode::kInvalidArgument);
  const auto unknown = VocabBuilder("rwkv").Build();
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("\"rwkv\""));
}

TEST(TokenizerCreateTest, AnEmptyVocabularyIsInvalid) {
  EXPECT_EQ(VocabBuilder("llama").Build().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(EndOfGenerationTest, MetadataAndWellKnownControlTokensCount) {
  VocabBuilder builder = Llama();
  builder.Add("<|im_end|>", TokenType::kControl).Add("<|eot_id|>", TokenType::kNormal).Add("my_eot").Add("my_eom");
  builder.Add("<|end|>", TokenType::kUserDefined);
  builder.metadata().SetUint32("tokenizer.ggml.eot_token_id", kFirst + 2);
  builder.metadata().SetUint32("tokenizer.ggml.eom_token_id", kFirst + 3);
  const auto tokenizer = builder.BuildOrDie();
  EXPECT_THAT(tokenizer->end_of_generation(), ElementsAre(2, kFirst, kFirst + 2, kFirst + 3, kFirst + 4));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(kFirst));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(kFirst + 1));  // spelled so, but ordinary text
  // A user-defined end of turn is taken as control: text alone must not end a turn.
  EXPECT_NE(tokenizer->Encode("<|end|>", {}).back(), kFirst + 4);
  EXPECT_EQ(tokenizer->Encode("<|end|>", {.parse_special = true}).back(), kFirst + 4);
}

// Tokens of single bytes, so that every cut of a text can be streamed.
TEST(StreamDecoderTest, NeverGivesHalfACharacter) {
  const auto tokenizer = Llama().BuildOrDie();
  StreamDecoder decoder(*tokenizer, /*at_text_start=*/false);
  const std::string text = "a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80z";
  std::string result;
  for (const char c : text) {
    const std::string part = decoder.Push(kFirstByte + static_cast<uint8_t>(c));
    EXPECT_EQ(ValidUtf8Prefix(part), part.size());
    result += part;
  }
  EXPECT_EQ(result, text);
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoderTest, InvalidBytesAreReplacedAtOnceAndUnfinishedOnesAtTheEnd) {
  const auto tokenizer = Llama().BuildOrDie();
  StreamDecoder decoder(*tokenizer, /*at_text_start=*/false);
  const auto push = [&](uint8_t byte) { return decoder.Push(kFirstByte + byte); };
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(push(0xFF), bad);
  EXPECT_EQ(push(0x80), bad);
  EXPECT_EQ(push(0xE2), "");
  EXPECT_EQ(push('a'), bad + "a");
  EXPECT_EQ(push(0xF0), "");
  EXPECT_EQ(push(0x9F), "");
  EXPECT_EQ(push(0xC3), bad);
  EXPECT_EQ(decoder.Finish(), bad);
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoderTest, RemovesTheSpaceOfEncodeOnlyAtTheStartOfAText) {
  const auto tokenizer = Llama().Add(kSpace + "a").BuildOrDie();
  StreamDecoder start(*tokenizer, /*at_text_start=*/true);
  EXPECT_EQ(start.Push(1), "");  // BOS prints nothing
  EXPECT_EQ(start.Push(kFirst), "a");
  EXPECT_EQ(start.Push(kFirst), " a");
  StreamDecoder middle(*tokenizer, /*at_text_start=*/false);
  EXPECT_EQ(middle.Push(kFirst), " a");
}

}  // namespace
}  // namespace tandem::engine
