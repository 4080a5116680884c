// A schema within a document: its keywords, checked, and where it is. Internal to the schema compiler.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine::grammar {

using Json = nlohmann::ordered_json;  // properties in the order of the text

// Bits; an integer is a number, too.
using TypeSet = uint32_t;
inline constexpr TypeSet kNull = 1, kBoolean = 2, kInteger = 4, kNumber = 8, kString = 16, kArray = 32, kObject = 64;
inline constexpr TypeSet kAllTypes = 127;

struct Counts {
  int32_t min, max;  // max may be kUnbounded
};

struct SchemaNode {
  const Json* json;
  std::string pointer;  // "#/properties/a"

  absl::Status Error(absl::string_view message) const;  // kInvalidArgument with the pointer in front
  // Below this; what is not there is null.
  SchemaNode Child(const std::string& key) const;
  SchemaNode Child(size_t index) const;
  bool Has(const char* keyword) const { return json->contains(keyword); }
  // Errors: the keyword's value is no string, no list of strings. An absent list is empty.
  absl::StatusOr<std::string> String(const char* keyword) const;
  absl::StatusOr<std::vector<std::string>> Strings(const char* keyword) const;
  // Errors: no whole number, above `limit`, or in the wrong order.
  absl::StatusOr<Counts> MinMax(const char* min_keyword, const char* max_keyword, int32_t limit) const;
};

// Errors: a keyword that is neither supported nor an annotation; `json` is an object.
absl::Status CheckKeywords(const SchemaNode& node);
// Errors: a keyword beside `keyword` that would be ignored.
absl::Status CheckAlone(const SchemaNode& node, const std::string& keyword);
// The types that `type` allows, or without it those that the other keywords speak of, or all. Errors: no such type.
absl::StatusOr<TypeSet> TypesOf(const SchemaNode& node);
TypeSet TypesOfValue(const Json& value);
// What the reference at `ref` (a node whose value is the reference) points to. Errors: not within the document, nothing
// there.
absl::StatusOr<SchemaNode> Resolve(const Json& root, const SchemaNode& ref);

}  // namespace tandem::engine::grammar
