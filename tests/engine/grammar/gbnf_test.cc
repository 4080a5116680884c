#include "engine/grammar/gbnf_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/grammar/texts.h"

namespace tandem::engine::grammar {
namespace {

using ::testing::HasSubstr;

TEST(GbnfTest, LiteralsClassesAndRepetitions) {
  ExpectTexts(Gbnf(R"(root ::= "ab" [c-e]+ [^x]? "!"{2})"), {"abc!!", "abced?!!", "abcc!!"},
              {"ab!!", "abc!", "abcx!!"});
  ExpectTexts(Gbnf(R"(root ::= [a-z]{2,3} "." [0-9]{2,} [x]{0,1} [y]{,2})"), {"ab.12", "abc.123456x", "ab.12yy"},
              {"a.12", "abcd.12", "ab.1", "ab.12xx", "ab.12yyy"});
  ExpectTexts(Gbnf("root ::= [-a] [a-] [\\]\\-^] \".\""), {"-a].", "a--.", "--^."}, {"b"});
}

TEST(GbnfTest, GroupsAlternativesCommentsAndLines) {
  const auto grammar = Gbnf(R"(# a comment
root ::= ("yes" | "no"  # inside
         | maybe
         ) end*   # behind
maybe ::=
  "may" "be"
  | "perhaps"

end ::= "." | "!" "!"
)");
  ExpectTexts(grammar, {"yes", "no.", "maybe!!", "perhaps..!!"}, {"yesno", "maybe!", "may"});
}

TEST(GbnfTest, EscapesAreCharactersNotBytes) {
  ExpectTexts(Gbnf(R"(root ::= "\n\t\r\"\\" "\x41\u00e9\U0001F600" [\u4e00-\u9fff])"),
              {"\n\t\r\"\\A\u00e9\U0001F600\u4e2d"}, {"\n\t\r\"\\A\xe9"});
  ExpectTexts(Gbnf("root ::= \"\u00e9\" [\u00e8-\u00ea]"), {"\u00e9\u00e8"}, {"\u00e9e", "e\u00e9"});
}

TEST(GbnfTest, DotAndNegatedClassesTakeWholeCharactersOnly) {
  const auto grammar = Gbnf("root ::= . [^a]");
  ExpectTexts(grammar, {"ab", "\u00e9\u4e2d", "\U0001F600\n"},
              {"aa", "a\xff", "\xc0\x80z", "\xed\xa0\x80z", "\xf4\x90\x80\x80z"});
  EXPECT_EQ(MatchText(grammar, "\xe4\xb8"), "more") << "a character begun";
}

TEST(GbnfTest, RecursionNests) {
  const auto grammar = Gbnf(R"(root ::= list
list ::= "[" (item ("," item)*)? "]"
item ::= "x" | list)");
  ExpectTexts(grammar, {"[]", "[x,[x,[]],x]"}, {"[", "[x", "[x]]", "[x,]", "[[x]"});
  std::string deep(5000, '[');
  EXPECT_EQ(MatchText(grammar, deep), "more");
  deep += std::string(5000, ']');
  EXPECT_EQ(MatchText(grammar, deep), "");
}

TEST(GbnfTest, RightRecursionNeedsNoStack) {
  const auto grammar = Gbnf("root ::= \"a\" rest\nrest ::= \"\" | \"b\" rest");
  EXPECT_EQ(MatchText(grammar, "a" + std::string(100000, 'b')), "");
  EXPECT_LT(grammar->bytes(), size_t{100000});
}

TEST(GbnfTest, AmbiguityIsNoObstacle) {
  ExpectTexts(Gbnf("root ::= s\ns ::= \"a\" s \"x\" | \"a\" s \"y\" | \"a\" s | \"\""),
              {"", std::string(200, 'a') + std::string(100, 'x') + std::string(100, 'y')}, {"x", "axx"});
}

void ExpectError(const std::string& text, const std::string& message) {
  const auto grammar = Grammar::FromGbnf(text, ByteTrie());
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_THAT(std::string(grammar.status().message()), HasSubstr(message)) << text;
}

TEST(GbnfErrorTest, NamesLineAndColumn) {
  ExpectError("", "the rule \"root\" is missing");
  ExpectError("x ::= \"a\"", "the rule \"root\" is missing");
  ExpectError("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule \"root\" is defined twice");
  ExpectError("root ::= \"a\" \n  | what", "line 2, column 5: the rule \"what\" is used but not defined");
  ExpectError("root = \"a\"", "line 1, column 6: \"::=\" is expected");
  ExpectError("root ::= \"a", "line 1, column 10: this literal is not closed");
  ExpectError("root ::= \"\u00e9\" [a", "line 1, column 14: this class is not closed");
  ExpectError("root ::= (\"a\"", "line 1, column 10: this parenthesis is not closed");
  ExpectError("root ::= \"a\")", "line 1, column 13: the end of the line");
  ExpectError("root ::= \"\\q\"", "unknown escape");
  ExpectError("root ::= \"\\x4\"", "2 hexadecimal digits");
  ExpectError("root ::= \"\\uD800\"", "U+D800 is no character");
  ExpectError("root ::= \"\\U00110000\"", "is no character");
  ExpectError("root ::= [z-a]", "ends before it begins");
  ExpectError("root ::= []", "no character");
  ExpectError("root ::= \"\xff\"", "not UTF-8");
  ExpectError("root ::= * \"a\"", "line 1, column 10");
  ExpectError("root ::= \"a\"{2", "\"}\" is expected");
  ExpectError("root ::= \"a\"{3,2}", "must not be above");
  ExpectError("1+", "\"::=\" is expected");
}

TEST(GbnfErrorTest, HostileGrammarsAreBounded) {
  ExpectError("root ::= \"a\"{1,1000000000}",
              "line 1, column 16: the repetition count is 1000000000; the limit is 100000");
  ExpectError("root ::= \"a\"{99999999999999999999999}", "the limit is 100000");
  ExpectError("root ::= ((([a-z]{0,1000}){0,1000}){0,1000})",
              "more than 400000 states at rule \"root\" (line 1, column 1)");
  ExpectError("root ::= ((\"\"{0,99999}){0,99999}){0,99999}", "more than 400000 states");
  ExpectError("root ::= " + std::string(1000, '('), "nested parentheses");
  ExpectError("root ::= \"a\"???????", "repetitions of one another");
  ExpectError(std::string(300 << 10, '#'), "the limit is 262144");
  std::string many;
  for (int i = 0; i < 10001; ++i) many += "r" + std::to_string(i) + " ::= \"a\"\n";
  ExpectError(many, "more than 10000 rules");
}

TEST(GbnfErrorTest, LeftRecursionIsNamed) {
  ExpectError("root ::= expr\nexpr ::= expr \"+\" | \"x\"", "rule \"expr\" (line 2, column 1) is left-recursive");
  ExpectError("root ::= a\na ::= b\nb ::= c? a \"x\"\nc ::= \"y\"", "is left-recursive");
  ExpectError("root ::= \"\"* root", "rule \"root\" (line 1, column 1) is left-recursive");
  ExpectError("root ::= a* \"x\"\na ::= b b root\nb ::= \"\" | \"z\"", "left-recursive");
  EXPECT_NE(Gbnf("root ::= \"x\" root | \"y\""), nullptr);
}

TEST(GbnfTest, DoublingRulesStaySmall) {
  // Made part of one another they would be 2^60 characters.
  std::string text = "root ::= r0\n";
  for (int i = 0; i < 60; ++i) {
    const std::string next = "r" + std::to_string(i + 1);
    text += "r" + std::to_string(i) + " ::= " + next + " " + next + "\n";
  }
  text += "r60 ::= \"a\"\n";
  EXPECT_EQ(MatchText(Gbnf(text), std::string(1000, 'a')), "more");
}

TEST(GbnfTest, AGrammarThatOnlyLoopsStillWorks) {
  EXPECT_EQ(MatchText(Gbnf("root ::= \"a\" root"), "aaaa"), "more") << "it never ends";
}

}  // namespace
}  // namespace tandem::engine::grammar
