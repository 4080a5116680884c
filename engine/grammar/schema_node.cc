#include "engine/grammar/schema_node.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {
namespace {

const Json& NullValue() {
  static const Json* const kNullValue = new Json(nullptr);
  return *kNullValue;
}

struct Keyword {
  absl::string_view name;
  TypeSet types;  // it speaks of; 0: all, or none
};
// Keywords that say something about a value.
constexpr std::array<Keyword, 22> kKeywords = {{{"type", 0},
                                                {"enum", 0},
                                                {"const", 0},
                                                {"anyOf", 0},
                                                {"oneOf", 0},
                                                {"allOf", 0},
                                                {"$ref", 0},
                                                {"properties", kObject},
                                                {"required", kObject},
                                                {"additionalProperties", kObject},
                                                {"items", kArray},
                                                {"prefixItems", kArray},
                                                {"minItems", kArray},
                                                {"maxItems", kArray},
                                                {"minLength", kString},
                                                {"maxLength", kString},
                                                {"pattern", kString},
                                                {"format", kString},
                                                {"minimum", kNumber},
                                                {"maximum", kNumber},
                                                {"exclusiveMinimum", kNumber},
                                                {"exclusiveMaximum", kNumber}}};
constexpr std::array<absl::string_view, 13> kAnnotations = {
    "title", "description", "default",    "examples", "$schema",   "$id",    "$comment",
    "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "$anchor"};

const Keyword* FindKeyword(absl::string_view name) {
  const auto it = std::find_if(kKeywords.begin(), kKeywords.end(), [name](const Keyword& k) { return k.name == name; });
  return it == kKeywords.end() ? nullptr : it;
}

bool IsAnnotation(absl::string_view name) {
  return absl::StartsWith(name, "x-") ||
         std::find(kAnnotations.begin(), kAnnotations.end(), name) != kAnnotations.end();
}

// Values with which a keyword that is not supported asks for nothing.
bool AsksNothing(absl::string_view name, const Json& value) {
  return (name == "uniqueItems" && value == Json(false)) || (name == "minProperties" && value == Json(0));
}
absl::StatusOr<TypeSet> TypeNamed(const SchemaNode& node, const Json& name) {
  static constexpr std::array<Keyword, 7> kTypes = {{{"null", kNull},
                                                     {"boolean", kBoolean},
                                                     {"integer", kInteger},
                                                     {"number", kNumber | kInteger},
                                                     {"string", kString},
                                                     {"array", kArray},
                                                     {"object", kObject}}};
  if (name.is_string()) {
    for (const Keyword& type : kTypes) {
      if (type.name == name.get_ref<const std::string&>()) return type.types;
    }
  }
  return node.Child("type").Error(absl::StrCat(
      name.dump().substr(0, 40), " is no type; types are null, boolean, integer, number, string, array and object"));
}

std::string EscapedKey(const std::string& key) { return absl::StrReplaceAll(key, {{"~", "~0"}, {"/", "~1"}}); }

// A part of a reference, which is a pointer within a URI.
absl::StatusOr<std::string> UnescapedKey(const SchemaNode& ref, absl::string_view part) {
  std::string key;
  for (size_t i = 0; i < part.size(); ++i) {
    if (part[i] != '%') {
      key.push_back(part[i]);
      continue;
    }
    int value = 0;
    if (i + 2 >= part.size() || !absl::SimpleHexAtoi(part.substr(i + 1, 2), &value)) {
      return ref.Error("% must be followed by two hexadecimal digits");
    }
    key.push_back(static_cast<char>(value));
    i += 2;
  }
  return absl::StrReplaceAll(key, {{"~1", "/"}, {"~0", "~"}});
}

}  // namespace

absl::Status SchemaNode::Error(absl::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat("at ", pointer, ": ", message));
}

SchemaNode SchemaNode::Child(const std::string& key) const {
  const auto it = json->find(key);
  return {it == json->end() ? &NullValue() : &*it, absl::StrCat(pointer, "/", EscapedKey(key))};
}

SchemaNode SchemaNode::Child(size_t index) const { return {&(*json)[index], absl::StrCat(pointer, "/", index)}; }

absl::StatusOr<std::string> SchemaNode::String(const char* keyword) const {
  const SchemaNode child = Child(keyword);
  if (!child.json->is_string()) return child.Error("a string is expected");
  return child.json->get<std::string>();
}

absl::StatusOr<std::vector<std::string>> SchemaNode::Strings(const char* keyword) const {
  std::vector<std::string> strings;
  if (!Has(keyword)) return strings;
  const SchemaNode child = Child(keyword);
  if (!child.json->is_array()) return child.Error("a list of strings is expected");
  for (size_t i = 0; i < child.json->size(); ++i) {
    const SchemaNode entry = child.Child(i);
    if (!entry.json->is_string()) return entry.Error("a string is expected");
    strings.push_back(entry.json->get<std::string>());
  }
  return strings;
}

absl::StatusOr<Counts> SchemaNode::MinMax(const char* min_keyword, const char* max_keyword, int32_t limit) const {
  Counts counts{0, kUnbounded};
  const auto read = [&](const char* keyword, int32_t* count) -> absl::Status {
    if (!Has(keyword)) return absl::OkStatus();
    const SchemaNode child = Child(keyword);
    const double value = child.json->is_number() ? child.json->get<double>() : -1.0;
    if (!(value >= 0.0 && value <= static_cast<double>(limit)) ||
        value != static_cast<double>(static_cast<int32_t>(value))) {
      return child.Error(absl::StrCat("a whole number from 0 to ", limit, " is expected"));
    }
    *count = static_cast<int32_t>(value);
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(read(min_keyword, &counts.min));
  TANDEM_RETURN_IF_ERROR(read(max_keyword, &counts.max));
  if (counts.max != kUnbounded && counts.max < counts.min) {
    return Error(absl::StrCat(min_keyword, " is ", counts.min, ", above ", max_keyword, ", which is ", counts.max));
  }
  return counts;
}

absl::Status CheckKeywords(const SchemaNode& node) {
  for (const auto& [name, value] : node.json->items()) {
    if (IsAnnotation(name) || AsksNothing(name, value)) continue;
    if (FindKeyword(name) == nullptr) {
      return node.Child(name).Error("this keyword is not supported, and a text could break it; leave it out");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAlone(const SchemaNode& node, const std::string& keyword) {
  for (const auto& [name, value] : node.json->items()) {
    // A type beside enum is checked with the values.
    if (name == keyword || IsAnnotation(name) || AsksNothing(name, value) || (keyword == "enum" && name == "type"))
      continue;
    if (keyword == "const" && name == "type") {
      TANDEM_ASSIGN_OR_RETURN(const TypeSet types, TypesOf(node));
      if ((TypesOfValue((*node.json)["const"]) & types) != 0) continue;
      return node.Child("const").Error("the value has not the type that the schema asks for");
    }
    return node.Child(name).Error(absl::StrCat("this keyword beside \"", keyword, "\" is not supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TypeSet> TypesOf(const SchemaNode& node) {
  TypeSet types = 0;
  if (node.Has("type")) {
    const Json& type = (*node.json)["type"];
    if (!type.is_array()) return TypeNamed(node, type);
    for (const Json& name : type) {
      TANDEM_ASSIGN_OR_RETURN(const TypeSet one, TypeNamed(node, name));
      types |= one;
    }
    if (types == 0) return node.Child("type").Error("the list of types is empty");
    return types;
  }
  for (const auto& [name, value] : node.json->items()) {
    const Keyword* keyword = FindKeyword(name);
    if (keyword == nullptr) continue;
    types |= keyword->types;
  }
  if ((types & kNumber) != 0) types |= kInteger;
  return types == 0 ? kAllTypes : types;
}

TypeSet TypesOfValue(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger | kNumber;
    case Json::value_t::number_float:
      return kNumber;
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    default:
      return kObject;
  }
}

absl::StatusOr<SchemaNode> Resolve(const Json& root, const SchemaNode& ref) {
  if (!ref.json->is_string()) return ref.Error("a string is expected");
  const std::string& text = ref.json->get_ref<const std::string&>();
  if (text != "#" && !absl::StartsWith(text, "#/")) {
    return ref.Error(
        absl::StrCat("\"", text.substr(0, 80), "\" is no reference within the document (\"#/$defs/name\")"));
  }
  SchemaNode node{&root, "#"};
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  for (size_t i = 1; i < parts.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const std::string key, UnescapedKey(ref, parts[i]));
    size_t index = 0;
    if (node.json->is_array() && absl::SimpleAtoi(key, &index) && index < node.json->size()) {
      node = node.Child(index);
    } else if (node.json->is_object() && node.json->contains(key)) {
      node = node.Child(key);
    } else {
      return ref.Error(absl::StrCat("nothing is at \"", text.substr(0, 80), "\""));
    }
  }
  return node;
}

}  // namespace tandem::engine::grammar
