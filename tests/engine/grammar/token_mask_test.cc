// Random texts that a schema's grammar lets through, read by a JSON parser and checked by a validator of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "engine/grammar/grammar.h"
#include "tests/engine/grammar/texts.h"

namespace tandem::engine::grammar {
namespace {

using Json = nlohmann::json;

bool HasType(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  return value.is_object();
}

size_t Characters(const std::string& text) {
  size_t count = 0;
  for (const char c : text) count += (c & 0xC0) != 0x80;
  return count;
}

// The meaning of the keywords used below, as the specification states it; not how the compiler sees them.
bool Valid(const Json& schema, const Json& value, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [keyword, wanted] : schema.items()) {
    bool good = true;
    const auto each = [&](const auto& predicate) {
      int count = 0;
      for (const Json& option : wanted) count += predicate(option);
      return count;
    };
    if (keyword == "$ref") good = Valid(root.at(Json::json_pointer(wanted.get<std::string>().substr(1))), value, root);
    if (keyword == "type" && wanted.is_string()) good = HasType(value, wanted);
    if (keyword == "type" && wanted.is_array()) good = each([&](const Json& type) { return HasType(value, type); }) > 0;
    if (keyword == "enum") good = each([&](const Json& option) { return option == value; }) > 0;
    if (keyword == "const") good = value == wanted;
    if (keyword == "anyOf") good = each([&](const Json& option) { return Valid(option, value, root); }) > 0;
    if (keyword == "oneOf") good = each([&](const Json& option) { return Valid(option, value, root); }) == 1;
    if (value.is_number()) {
      if (keyword == "minimum") good = value >= wanted;
      if (keyword == "maximum") good = value <= wanted;
      if (keyword == "exclusiveMinimum") good = value > wanted;
      if (keyword == "exclusiveMaximum") good = value < wanted;
    }
    if (value.is_string()) {
      if (keyword == "minLength") good = Characters(value) >= wanted;
      if (keyword == "maxLength") good = Characters(value) <= wanted;
    }
    if (value.is_array()) {
      if (keyword == "minItems") good = value.size() >= wanted;
      if (keyword == "maxItems") good = value.size() <= wanted;
      const size_t given = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
      for (size_t i = 0; i < value.size() && good; ++i) {
        if (keyword == "items" && i >= given) good = Valid(wanted, value[i], root);
        if (keyword == "prefixItems" && i < given) good = Valid(wanted[i], value[i], root);
      }
    }
    if (value.is_object()) {
      const Json none = Json::object();
      const Json& declared = schema.contains("properties") ? schema["properties"] : none;
      if (keyword == "required")
        good = each([&](const Json& name) { return value.contains(name.get<std::string>()); }) ==
               static_cast<int>(wanted.size());
      for (const auto& [name, member] : value.items()) {
        if (keyword == "properties" && wanted.contains(name)) good = good && Valid(wanted[name], member, root);
        if (keyword == "additionalProperties" && !declared.contains(name)) good = good && Valid(wanted, member, root);
      }
    }
    if (!good) return false;
  }
  return true;
}

const char* const kSchemas[] = {
    "{}",
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"maximum":130},
        "mail":{"type":"string","format":"email"}},"required":["name","age"],"additionalProperties":false})",
    R"({"type":"array","items":{"type":"number","exclusiveMinimum":-3,"maximum":7},"minItems":1,"maxItems":5})",
    R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"enum":[1,"x",null]},
        "l":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/n"}]},"r":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","l","r"]}}})",
    R"({"type":"object","properties":{"a":{"type":"boolean"},"ab":{"type":"null"}},"additionalProperties":{"type":"string"}})",
    R"({"oneOf":[{"type":"object","properties":{"k":{"const":"sum"},"of":{"type":"array","items":{"$ref":"#"}}},"required":["k","of"]},
        {"type":"object","properties":{"k":{"const":"num"},"v":{"type":"integer"}},"required":["k","v"]}]})",
    R"({"type":["string","null","array"],"minLength":1,"maxLength":4,"prefixItems":[{"type":"integer"},{"const":"two"}],
        "items":{"type":"boolean"},"minItems":2,"maxItems":4})",
    R"({"type":"number","minimum":-1,"maximum":1})",
    R"({"type":"object","required":["x","y"],"properties":{"y":{"type":"integer","exclusiveMaximum":-10}},"additionalProperties":{"type":"integer"}})",
};

// Tokens of one to six bytes, many of them parts of JSON.
std::shared_ptr<const TokenTrie> JsonTrie() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  for (const char* text : {"{\"",      "\":",
                           "\": ",     "\",",
                           "\", \"",   "\"}",
                           "},",       "]}",
                           "[{",       "[]",
                           "{}",       "]]",
                           "}}",       "null",
                           "true",     "false",
                           "tru",      ", ",
                           ",\"",      "name",
                           "age\"",    "\"v\"",
                           "\"l\":",   "\"r\":null",
                           "nu",       "1,",
                           "12",       "-1",
                           "0.",       "0}",
                           "\\n",      "\\u00",
                           "\xc3",     "\xc3\xa9",
                           "\xa9",     "\xe4\xb8",
                           "\xad\"",   "\xf0\x9f\x98\x80",
                           "sum",      "\"num\"",
                           "\"k\":\"", "\n  ",
                           "\n",       "  "}) {
    texts.emplace_back(text);
  }
  return std::make_shared<const TokenTrie>(std::move(texts));
}

TEST(ConstrainedTextTest, EveryFinishedTextParsesAndIsValid) {
  std::mt19937 random(11);
  const auto trie = JsonTrie();
  int finished = 0;
  for (const char* schema : kSchemas) {
    const auto grammar = Grammar::FromJsonSchema(schema, trie);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const Json parsed_schema = Json::parse(schema);
    std::set<std::string> different;
    for (int run = 0; run < 300; ++run) {
      auto matcher = Matcher::Create(*grammar, false);
      ASSERT_TRUE(matcher.ok());
      std::string text;
      for (int step = 0; step < 400; ++step) {
        if (matcher->may_end() && (!matcher->any_allowed() || random() % 3 == 0)) break;
        ASSERT_TRUE(matcher->any_allowed()) << text;
        std::vector<int32_t> allowed;
        for (int32_t token = 0; token < trie->vocab_size(); ++token) {
          // Closing now and then, or the texts would hardly end.
          const std::string& piece = trie->text(token);
          const bool closes = piece[0] == '"' || piece[0] == ']' || piece[0] == '}';
          if (matcher->Allows(token)) allowed.insert(allowed.end(), closes ? 30 : 1, token);
        }
        const int32_t token = allowed[random() % allowed.size()];
        ASSERT_TRUE(matcher->Accept(token).ok());
        text += trie->text(token);
      }
      if (!matcher->may_end()) continue;  // cut off, as by max_tokens
      ++finished;
      different.insert(text);
      const Json value = Json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << schema << "\n" << text;
      EXPECT_TRUE(Valid(parsed_schema, value, parsed_schema)) << schema << "\n" << text;
    }
    EXPECT_GT(different.size(), 20u) << schema;
  }
  EXPECT_GT(finished, 1500);
}

}  // namespace
}  // namespace tandem::engine::grammar
