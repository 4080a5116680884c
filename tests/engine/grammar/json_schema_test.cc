#include "engine/grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/grammar/texts.h"

namespace tandem::engine::grammar {
namespace {

using ::testing::HasSubstr;

TEST(JsonSchemaTest, SimpleTypes) {
  ExpectTexts(Schema(R"({"type":"null"})"), {"null"}, {"nul", "0"});
  ExpectTexts(Schema(R"({"type":"boolean"})"), {"true", "false"}, {"True", "1"});
  ExpectTexts(Schema(R"({"type":"integer"})"), {"0", "-1", "12345"},
              {"01", "-0", "-", "1.5", "1e3", "1234567890123456"});
  ExpectTexts(Schema(R"({"type":"number"})"), {"0", "-0.5", "1e9", "12.75E-12", "-0"}, {"1.", ".5", "1e", "01", "+1"});
  ExpectTexts(Schema(R"({"type":["integer","null"]})"), {"7", "null"}, {"true", "\"\""});
  ExpectTexts(Schema("{\"type\":\"string\"}"),
              {"\"\"", "\"a\u00e9\u4e2d\U0001F600\"", R"("\"\\\/\b\f\n\r\t\u00e9\uFFFF\ud7ff")"},
              {"\"", "\"\n\"", R"("\x")", R"("\u12")", R"("\ud800")", "\"\xff\"", "a"});
}

TEST(JsonSchemaTest, EmptyAndTrueAreAnyDocument) {
  for (const char* schema : {"{}", "true", R"({"description":"whatever","x-note":1})"}) {
    ExpectTexts(Schema(schema), {"1", R"({"a":[1,{"b":null}],"c":"d"})", "[ [], {} ]", "\"x\""},
                {"", "{a:1}", "[1,]", "{}{}"});
  }
}

TEST(JsonSchemaTest, WhiteSpaceIsBounded) {
  const auto schema = Schema(R"({"type":"array","items":{"type":"integer"}})");
  ExpectTexts(schema, {"[1,2]", "[1, 2]", "[\n  1,\n  2\n]", "[]"}, {"[  1]", "[\n\n1]", " [1]", "[1 ,2]"});
}

TEST(JsonSchemaTest, StringLengthsCountCharacters) {
  ExpectTexts(Schema(R"({"type":"string","minLength":2,"maxLength":3})"), {"\"ab\"", "\"\u4e2d\\n\U0001F600\""},
              {"\"a\"", "\"abcd\"", "\"\u4e2d\""});
}

TEST(JsonSchemaTest, Formats) {
  const auto with = [](const std::string& format) { return Schema(R"({"type":"string","format":")" + format + "\"}"); };
  ExpectTexts(with("date"), {"\"2024-02-28\"", "\"1999-12-31\"", "\"2024-04-30\""},
              {"\"2024-02-30\"", "\"2024-04-31\"", "\"2024-13-01\"", "\"24-01-01\"", "\"2024-00-10\""});
  ExpectTexts(with("time"), {"\"23:59:59Z\"", "\"00:00:00.123+05:30\""},
              {"\"24:00:00Z\"", "\"12:00Z\"", "\"12:00:00\""});
  ExpectTexts(with("date-time"), {"\"2024-02-28T12:00:00Z\""}, {"\"2024-02-28 12:00:00Z\"", "\"2024-02-28\""});
  ExpectTexts(with("uuid"), {"\"123e4567-e89b-12d3-a456-426614174000\""},
              {"\"123e4567\"", "\"123e4567e89b12d3a456426614174000\""});
  ExpectTexts(with("email"), {"\"a.b@example.com\""}, {"\"a@b\"", "\".a@b.com\"", "\"a b@c.com\"", "\"@b.com\""});
  ExpectTexts(with("hostname"), {"\"a.example-1.org\""}, {"\"-a.org\"", "\"a..b\""});
  ExpectTexts(with("ipv4"), {"\"192.168.0.255\""}, {"\"256.1.1.1\"", "\"1.2.3\"", "\"01.2.3.4\""});
}

TEST(JsonSchemaTest, IntegerBoundsAreExact) {
  const auto schema = [](const std::string& bounds) { return Schema("{\"type\":\"integer\"," + bounds + "}"); };
  const std::vector<std::pair<int, int>> ranges = {{0, 9}, {-7, 123}, {95, 1042}, {-250, -31}, {-1000, 0}, {5, 5}};
  for (const auto& [low, high] : ranges) {
    const auto grammar = schema("\"minimum\":" + std::to_string(low) + ",\"maximum\":" + std::to_string(high));
    for (int value = -1100; value <= 1100; ++value) {
      EXPECT_EQ(MatchText(grammar, std::to_string(value)) == "", value >= low && value <= high)
          << value << " in " << low << ".." << high;
    }
  }
  ExpectTexts(schema("\"exclusiveMinimum\":3,\"exclusiveMaximum\":5"), {"4"}, {"3", "5"});
  ExpectTexts(schema("\"minimum\":2.5"), {"3", "1000"}, {"2"});
  ExpectTexts(schema("\"minimum\":3,\"exclusiveMinimum\":3"), {"4"}, {"3"});
}

TEST(JsonSchemaTest, NumberBoundsHoldWithFractions) {
  ExpectTexts(Schema(R"({"type":"number","minimum":0,"maximum":1})"), {"0", "1", "0.5", "0.001"},
              {"-0.5", "1.5", "2", "0.50", "1e5"});
  ExpectTexts(Schema(R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":2})"), {"1", "0.5", "1.99"},
              {"0", "2", "2.5"});
  ExpectTexts(Schema(R"({"type":"number","minimum":-2,"maximum":-1})"), {"-2", "-1.5", "-1"},
              {"-2.5", "-0.5", "0", "1"});
  ExpectTexts(Schema(R"({"type":"number","minimum":0})"), {"12.75", "100000"}, {"-1"});
}

TEST(JsonSchemaTest, EnumAndConst) {
  ExpectTexts(Schema(R"({"enum":["a\n",1,null,[1,2],{"x":1}]})"), {R"("a\n")", "1", "null", "[1,2]", R"({"x":1})"},
              {"2", "[1]"});
  ExpectTexts(Schema(R"({"const":{"k":"v"}})"), {R"({"k":"v"})"}, {"{}"});
  ExpectTexts(Schema(R"({"type":"string","enum":["a",1]})"), {"\"a\""}, {"1"});
}

TEST(JsonSchemaTest, ObjectsHavePropertiesInOrderAndOptionalOnes) {
  const auto schema = Schema(R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},
    "c":{"type":"boolean"}},"required":["b"]})");
  ExpectTexts(
      schema, {R"({"b":null})", R"({"a":1,"b":null})", R"({"b":null,"c":true})", R"({"a":1, "b":null, "c":false})"},
      {"{}", R"({"a":1})", R"({"a":1,"c":true})", R"({"b":null,"a":1})", R"({"b":null,"d":1})", R"({"b":null,})"});
  ExpectTexts(Schema(R"({"properties":{"a":{"type":"integer"},"b":{"type":"null"}}})"),
              {"{}", R"({"a":1})", R"({"b":null})", R"({"a":1,"b":null})"}, {"1", R"({,"b":null})"});
  ExpectTexts(Schema(R"({"type":"object"})"), {"{}", R"({"x":[1]})"}, {"[]"});
}

TEST(JsonSchemaTest, AdditionalPropertiesDifferFromTheDeclared) {
  const auto schema = Schema(R"({"type":"object","properties":{"ab":{"type":"integer"},"abc":{"type":"integer"}},
    "required":["ab"],"additionalProperties":{"type":"boolean"}})");
  ExpectTexts(schema,
              {R"({"ab":1})", R"({"ab":1,"x":true})", R"({"ab":1,"abc":2,"a":true,"abcd":false,"":true,"b":true})"},
              {R"({"ab":1,"ab":true})", R"({"ab":1,"abc":true})", R"({"x":true})", R"({"ab":1,"x":1})",
               R"({"ab":1,"\u0061b":true})"});
  ExpectTexts(Schema(R"({"type":"object","additionalProperties":false})"), {"{}"}, {R"({"a":1})"});
  ExpectTexts(Schema(R"({"type":"object","required":["q"]})"), {R"({"q":1})", R"({"q":1,"r":2})"},
              {"{}", R"({"r":2})"});
}

TEST(JsonSchemaTest, ArraysCountTheirItems) {
  ExpectTexts(Schema(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})"), {"[1]", "[1,2,3]"},
              {"[]", "[1,2,3,4]"});
  ExpectTexts(Schema(R"({"type":"array","maxItems":0})"), {"[]", "[ ]"}, {"[1]"});
  const auto tuple =
      Schema(R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"null"}],"items":{"type":"boolean"},
    "minItems":1,"maxItems":4})");
  ExpectTexts(tuple, {"[1]", "[1,null]", "[1,null,true,false]"},
              {"[]", "[null]", "[1,true]", "[1,null,true,true,true]"});
  ExpectTexts(Schema(R"({"prefixItems":[{"type":"integer"},{"type":"null"}],"items":false,"minItems":2})"),
              {"[1,null]"}, {"[1]", "[1,null,1]"});
  ExpectTexts(Schema(R"({"type":"array","items":{"type":"integer"},"minItems":2})"), {"[1,2]", "[1,2,3]"},
              {"[1]", "[]"});
}

TEST(JsonSchemaTest, ReferencesMayRecur) {
  const auto tree =
      Schema(R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},
    "kids":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["v"]}}})");
  ExpectTexts(tree, {R"({"v":1})", R"({"v":1,"kids":[{"v":2,"kids":[]},{"v":3}]})"},
              {R"({"v":1,"kids":[{}]})", R"({"kids":[]})"});
  ExpectTexts(Schema(R"({"type":"array","items":{"$ref":"#"}})"), {"[]", "[[],[[]]]"}, {"[1]"});
  ExpectTexts(Schema(R"({"$ref":"#/definitions/a~1b%25","definitions":{"a/b%":{"const":1}}})"), {"1"}, {"2"});
}

TEST(JsonSchemaTest, AnyOfOneOfAllOf) {
  ExpectTexts(Schema(R"({"anyOf":[{"type":"integer"},{"type":"number","minimum":0},{"const":"x"}]})"),
              {"-3", "2.5", "\"x\""}, {"-2.5"});
  ExpectTexts(Schema(R"({"oneOf":[{"type":"integer"},{"type":"string"}]})"), {"1", "\"\""}, {"null"});
  const auto tagged = Schema(R"({"oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"$defs":{
    "a":{"type":"object","properties":{"t":{"const":"a"},"x":{"type":"integer"}},"required":["t","x"]},
    "b":{"type":"object","properties":{"t":{"enum":["b","c"]}},"required":["t"]}}})");
  ExpectTexts(tagged, {R"({"t":"a","x":1})", R"({"t":"c"})"}, {R"({"t":"a"})", R"({"t":"b","x":1})"});
  ExpectTexts(Schema(R"({"allOf":[{"type":"integer"}],"title":"t"})"), {"1"}, {"null"});
}

void ExpectError(const std::string& schema, const std::string& message) {
  const auto grammar = Grammar::FromJsonSchema(schema, ByteTrie());
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << schema;
  EXPECT_THAT(std::string(grammar.status().message()), HasSubstr(message)) << schema;
}

TEST(JsonSchemaErrorTest, NamesThePointer) {
  ExpectError(R"({"properties":{"a/b":{"not":{}}}})", "at #/properties/a~1b/not: this keyword is not supported");
  for (const char* keyword : {"uniqueItems", "multipleOf", "minProperties", "patternProperties", "contains", "if",
                              "dependentRequired", "propertyNames", "unevaluatedProperties", "nullable"}) {
    ExpectError("{\"" + std::string(keyword) + "\":1}", "at #/" + std::string(keyword));
  }
  ExpectError(R"({"type":"strang"})", "at #/type: \"strang\" is no type");
  ExpectError(R"({"type":[]})", "the list of types is empty");
  ExpectError(R"({"type":"array","items":[{}]})", "at #/items: a schema must be an object");
  ExpectError(R"({"type":"string","format":"color"})", "at #/format: the format \"color\" is not supported");
  ExpectError("{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "at #/pattern: line 1, column 1: groups");
  ExpectError(R"({"type":"string","pattern":"a","minLength":1})", "only one is supported");
  ExpectError(R"({"type":"string","minLength":-1})", "at #/minLength: a whole number from 0 to 100000");
  ExpectError(R"({"type":"string","maxLength":1000000000})", "at #/maxLength");
  ExpectError(R"({"type":"string","minLength":3,"maxLength":2})", "at #: minLength is 3, above maxLength, which is 2");
  ExpectError(R"({"$ref":"other.json"})", "at #/$ref: \"other.json\" is no reference within the document");
  ExpectError(R"({"$ref":"#/$defs/x"})", "nothing is at");
  ExpectError(R"({"$ref":"#/$defs/x","minLength":1,"$defs":{"x":{}}})", "at #/minLength: this keyword beside \"$ref\"");
  ExpectError(R"({"enum":[]})", "at #/enum: a list");
  ExpectError(R"({"type":"integer","enum":["a"]})", "at #/enum: no value has the type");
  ExpectError(R"({"type":"integer","const":"a"})", "at #/const");
  ExpectError(R"({"allOf":[{},{}]})", "at #/allOf: only one schema");
  ExpectError(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})",
              "at #/oneOf: a value might satisfy both number 0 and number 1");
  ExpectError(R"({"type":"integer","minimum":1.2,"maximum":1.8})", "no integer lies within");
  ExpectError(R"({"type":"integer","minimum":1e30})", "too large");
  ExpectError(R"({"type":"integer","minimum":"1"})", "at #/minimum: a number is expected");
  ExpectError(R"({"type":"object","required":["a"],"additionalProperties":false})", "\"a\" is no property");
  ExpectError(R"({"type":"array","prefixItems":[{}],"items":false,"minItems":2})", "no array has so many items");
}

TEST(JsonSchemaErrorTest, NoJsonNamesThePlace) {
  ExpectError("{\n \"type\": }", "line 2, column 10: the schema is no JSON here");
  ExpectError("", "no JSON");
  ExpectError("1e999", "no JSON");
  ExpectError("{\"a\":\"\xff\"}", "no JSON");
}

TEST(JsonSchemaErrorTest, HostileSchemasAreBounded) {
  ExpectError(std::string(1000, '['), "nests deeper than 64");
  ExpectError(std::string(200 << 10, ' '), "the limit is 131072");
  ExpectError(R"({"$ref":"#"})", "the schema at # is left-recursive");
  ExpectError(R"({"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}}})",
              "left-recursive");
  ExpectError(R"({"type":"array","minItems":100000,"items":{"type":"string","minLength":100000}})",
              "more than 400000 states");
  ExpectError("{\"type\":\"object\",\"additionalProperties\":{},\"properties\":{\"" + std::string(300, 'a') + "\":{}}}",
              "256 bytes");
}

}  // namespace
}  // namespace tandem::engine::grammar
