#include "engine/grammar/regex_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/grammar/texts.h"

namespace tandem::engine::grammar {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<Grammar> Pattern(const std::string& pattern) {
  std::string escaped;
  for (const char c : pattern) escaped += c == '\\' || c == '"' ? std::string("\\") + c : std::string(1, c);
  return Schema(R"({"type":"string","pattern":")" + escaped + "\"}");
}

TEST(RegexTest, AnchorsDecideWhatMayStandAround) {
  ExpectTexts(Pattern("^ab$"), {"\"ab\""}, {"\"xab\"", "\"abx\"", "\"\""});
  ExpectTexts(Pattern("ab"), {"\"ab\"", "\"xxabyy\"", "\"ab\\n\""}, {"\"a\"", "\"ba\""});
  ExpectTexts(Pattern("^a|b$"), {"\"a\"", "\"axx\"", "\"xxb\""}, {"\"xax\"", "\"bx\""});
}

TEST(RegexTest, ClassesGroupsAndCounts) {
  ExpectTexts(Pattern(R"(^\d{3}-(?:[a-f]|X\w)+?$)"), {"\"123-a\"", "\"000-abX_\""},
              {"\"12-a\"", "\"123-\"", "\"123-X\""});
  ExpectTexts(Pattern(R"(^[^\s,]+(, ?[^\s,]+){0,2}$)"), {"\"a\"", "\"a, b,c\""}, {"\"a b\"", "\"a,b,c,d\""});
  ExpectTexts(Pattern(R"(^[\]\-a-]\.\x41\u00e9$)"), {"\"].A\u00e9\"", "\"-.A\u00e9\""}, {"\"b.A\u00e9\""});
  ExpectTexts(Pattern("^.{2}$"), {"\"\u4e2d\u4e2d\""}, {"\"a\"", "\"a\\n\""});
}

TEST(RegexTest, WhatJsonEscapesIsEscaped) {
  ExpectTexts(Pattern(R"(^"\\\n\t[\x00-\x02]$)"), {R"("\"\\\n\t\u0001")"}, {"\"\"\\\\\"", R"("\"\\\n\tx")"});
}

TEST(RegexTest, WhatIsNotSupportedIsNamed) {
  const auto error = [](const std::string& pattern) { return std::string(ParseRegex(pattern).status().message()); };
  EXPECT_THAT(error("(?=a)"), HasSubstr("line 1, column 1: groups that begin with (?"));
  EXPECT_THAT(error("(?<n>a)"), HasSubstr("(?"));
  EXPECT_THAT(error("a\\b"), HasSubstr("column 2: this escape is not supported"));
  EXPECT_THAT(error("(a)\\1"), HasSubstr("this escape is not supported"));
  EXPECT_THAT(error("\\p{L}"), HasSubstr("this escape is not supported"));
  EXPECT_THAT(error("a^b"), HasSubstr("^ is supported at the beginning"));
  EXPECT_THAT(error("(a$)"), HasSubstr("$ is supported at the end"));
  EXPECT_THAT(error("(a"), HasSubstr("not closed"));
  EXPECT_THAT(error("a)"), HasSubstr("was not opened"));
  EXPECT_THAT(error("[a"), HasSubstr("not closed"));
  EXPECT_THAT(error("a**"), HasSubstr("needs a group"));
  EXPECT_THAT(error("+"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(error("a{20000}"), HasSubstr("the limit is 10000"));
  EXPECT_THAT(error(std::string(100, '(')), HasSubstr("nested groups"));
  EXPECT_THAT(error("\\"), HasSubstr("the text ends"));
}

}  // namespace
}  // namespace tandem::engine::grammar
