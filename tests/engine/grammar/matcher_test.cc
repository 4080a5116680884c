// Masks over vocabularies of longer tokens, against trying every token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/grammar/grammar.h"
#include "tests/engine/grammar/texts.h"

namespace tandem::engine::grammar {
namespace {

using ::testing::HasSubstr;

// All bytes, and random pieces of `samples`, some of which begin or end inside a character.
std::shared_ptr<const TokenTrie> PieceTrie(const std::vector<std::string>& samples, std::mt19937* random) {
  std::vector<std::string> texts = {"", ""};  // control tokens
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; i < 700; ++i) {
    const std::string& sample = samples[(*random)() % samples.size()];
    const size_t begin = (*random)() % sample.size();
    texts.push_back(sample.substr(begin, 1 + (*random)() % 7));  // with repeats
  }
  return std::make_shared<const TokenTrie>(std::move(texts));
}

struct Case {
  const char* name;
  bool schema;
  const char* text;
};
void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

const Case kCases[] = {
    {"Any", true, "{}"},
    {"Tree", true,
     R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"string"},"k":{"type":"array","items":{"$ref":"#/$defs/n"}}}}}})"},
    {"Lengths", true, R"({"type":"array","items":{"type":"string","minLength":2,"maxLength":5},"maxItems":4})"},
    {"Names", true,
     R"({"type":"object","properties":{"name":{},"names":{}},"additionalProperties":{"type":"integer"}})"},
    {"Arithmetic", false, "root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9]+ | \"(\" e \")\" | \"\u00e9\" t"},
    {"Ambiguous", false, "root ::= x x\nx ::= \"a\" x \"b\" | \"a\" x | [a-c]* \"d\"? | \"\u4e2d\" x \"\u4e2d\""},
};

class MaskTest : public ::testing::TestWithParam<Case> {};

TEST_P(MaskTest, IsWhatTryingEveryTokenGives) {
  std::mt19937 random(7);
  const std::vector<std::string> samples = {
      R"({"name":"a\u00e9b","names":[1,-2.5e3,true,null],"v":"x","k":[{"k":[]}]})", "((1+2)+\u00e93)",
      "aabbacd\u4e2dad\u4e2dab", "[[[]]]}}]]\"\",\"\": \n    "};
  const auto trie = PieceTrie(samples, &random);
  const Case& c = GetParam();
  const auto grammar = c.schema ? Grammar::FromJsonSchema(c.text, trie) : Grammar::FromGbnf(c.text, trie);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  // Bytes one by one know no trie: the specification.
  const auto plain = c.schema ? Schema(c.text) : Gbnf(c.text);
  const auto fits = [&](const std::string& so_far, int32_t token) {
    const std::string matched = MatchText(plain, so_far + trie->text(token));
    return matched.empty() || matched == "more";
  };
  int steps = 0;
  for (int run = 0; run < 12; ++run) {
    auto matcher = Matcher::Create(*grammar, false);
    ASSERT_TRUE(matcher.ok()) << matcher.status();
    std::string text;
    for (int step = 0; step < 25 && matcher->any_allowed(); ++step, ++steps) {
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < trie->vocab_size(); ++token) {
        if (matcher->Allows(token)) allowed.push_back(token);
      }
      for (int check = 0; check < 40; ++check) {
        const int32_t token = 2 + static_cast<int32_t>(random() % static_cast<uint32_t>(trie->vocab_size() - 2));
        EXPECT_EQ(matcher->Allows(token), fits(text, token)) << text << " + " << trie->text(token);
      }
      EXPECT_FALSE(matcher->Allows(0)) << "control tokens have no text";
      const int32_t next = allowed[random() % allowed.size()];
      text += trie->text(next);
      ASSERT_TRUE(matcher->Accept(next).ok());
    }
  }
  EXPECT_GT(steps, 20);
}

INSTANTIATE_TEST_SUITE_P(Grammars, MaskTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MatcherTest, AForbiddenTokenChangesNothing) {
  auto matcher = Matcher::Create(Gbnf("root ::= \"ab\""), false);
  ASSERT_TRUE(matcher.ok());
  EXPECT_EQ(matcher->Accept('b').code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(matcher->Accept(-1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(matcher->Accept(1000).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(matcher->Accept('a').ok());
  EXPECT_FALSE(matcher->may_end());
  EXPECT_TRUE(matcher->Accept('b').ok());
  EXPECT_TRUE(matcher->may_end());
  EXPECT_FALSE(matcher->any_allowed());
}

TEST(MatcherTest, ASpaceThatGoesAwayIsNotMatched) {
  const auto trie =
      std::make_shared<const TokenTrie>(std::vector<std::string>{"a", " a", " ", " b", "ab", " ab", "  a"});
  const auto grammar = Grammar::FromGbnf("root ::= \"a\" \"b\"? \" a\"?", trie);
  ASSERT_TRUE(grammar.ok());
  const auto allowed = [&](const Matcher& matcher) {
    std::vector<int32_t> tokens;
    for (int32_t token = 0; token < trie->vocab_size(); ++token) {
      if (matcher.Allows(token)) tokens.push_back(token);
    }
    return tokens;
  };
  auto plain = Matcher::Create(*grammar, false), stripped = Matcher::Create(*grammar, true);
  EXPECT_THAT(allowed(*plain), ::testing::ElementsAre(0, 4));
  EXPECT_THAT(allowed(*stripped), ::testing::ElementsAre(0, 1, 4, 5));
  ASSERT_TRUE(stripped->Accept(1).ok());
  EXPECT_THAT(allowed(*stripped), ::testing::ElementsAre(1, 2)) << "later a space is a space";
}

TEST(MatcherTest, AVocabularyThatCannotSpellTheStartIsAnError) {
  const auto trie = std::make_shared<const TokenTrie>(std::vector<std::string>{"a", "b"});
  EXPECT_THAT(std::string(Matcher::Create(*Grammar::FromGbnf("root ::= \"x\"", trie), false).status().message()),
              HasSubstr("allows no token of the model's vocabulary"));
  EXPECT_FALSE(Matcher::Create(*Grammar::FromGbnf("root ::= \"\"", trie), false).ok()) << "an answer of nothing";
}

TEST(MatcherTest, ExplodingGrammarsFailInsteadOfHanging) {
  // Every second way back differs, and none may be given up: 2^n stacks after n characters.
  const auto grammar = Gbnf(R"(root ::= a | b
a ::= "x" a "0" | "x" b "1" | "y"
b ::= "x" a "2" | "x" b "3" | "z")");
  auto matcher = Matcher::Create(grammar, false);
  ASSERT_TRUE(matcher.ok());
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = matcher->Accept('x');
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("too ambiguous"));
  // A set of many states for each of many bytes.
  const auto chain = Grammar::FromGbnf("root ::= (\"a\"?){0,60000} \"b\"", ByteTrie());
  ASSERT_TRUE(chain.ok());
  auto slow = Matcher::Create(*chain, false);
  for (int i = 0; i < 3000 && slow.ok(); ++i) {
    if (absl::Status accepted = slow->Accept('a'); !accepted.ok()) {
      EXPECT_EQ(accepted.code(), absl::StatusCode::kResourceExhausted);
      return;
    }
  }
  EXPECT_LT((*chain)->bytes(), Automaton::kMaxBytes + (size_t{32} << 20));
}

}  // namespace
}  // namespace tandem::engine::grammar
