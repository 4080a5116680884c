#include "engine/grammar/schema_disjoint.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine::grammar {
namespace {

constexpr size_t kMaxSchemas = 64;
constexpr int kMaxReferences = 16;

// Behind all references.
absl::StatusOr<SchemaNode> Target(const Json& root, SchemaNode node) {
  for (int i = 0; i < kMaxReferences && node.json->is_object() && node.Has("$ref"); ++i) {
    TANDEM_ASSIGN_OR_RETURN(node, Resolve(root, node.Child("$ref")));
  }
  return node;
}

// The values that enum or const name; nullopt: it does not name them.
std::optional<std::vector<Json>> Values(const SchemaNode& node) {
  if (!node.json->is_object()) return std::nullopt;
  if (node.Has("const")) return std::vector<Json>{(*node.json)["const"]};
  if (!node.Has("enum") || !(*node.json)["enum"].is_array()) return std::nullopt;
  return (*node.json)["enum"].get<std::vector<Json>>();
}

bool DisjointValues(const SchemaNode& a, const SchemaNode& b) {
  const auto of_a = Values(a), of_b = Values(b);
  if (!of_a || !of_b) return false;
  return std::none_of(of_a->begin(), of_a->end(),
                      [&](const Json& value) { return std::find(of_b->begin(), of_b->end(), value) != of_b->end(); });
}

absl::StatusOr<TypeSet> PossibleTypes(const SchemaNode& node) {
  if (!node.json->is_object()) return kAllTypes;
  if (const auto values = Values(node)) {
    TypeSet types = 0;
    for (const Json& value : *values) types |= TypesOfValue(value);
    return types;
  }
  for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
    if (node.Has(keyword)) return kAllTypes;
  }
  return TypesOf(node);
}

absl::StatusOr<bool> Disjoint(const Json& root, const SchemaNode& a, const SchemaNode& b) {
  TANDEM_ASSIGN_OR_RETURN(const TypeSet types_a, PossibleTypes(a));
  TANDEM_ASSIGN_OR_RETURN(const TypeSet types_b, PossibleTypes(b));
  if ((types_a & types_b) == 0 || DisjointValues(a, b)) return true;
  if (types_a != kObject || types_b != kObject || Values(a) || Values(b)) return false;
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> required_a, a.Strings("required"));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> required_b, b.Strings("required"));
  for (const std::string& name : required_a) {
    if (std::find(required_b.begin(), required_b.end(), name) == required_b.end()) continue;
    const SchemaNode properties_a = a.Child("properties"), properties_b = b.Child("properties");
    if (!properties_a.json->is_object() || !properties_b.json->is_object()) continue;
    TANDEM_ASSIGN_OR_RETURN(const SchemaNode value_a, Target(root, properties_a.Child(name)));
    TANDEM_ASSIGN_OR_RETURN(const SchemaNode value_b, Target(root, properties_b.Child(name)));
    if (DisjointValues(value_a, value_b)) return true;
  }
  return false;
}

}  // namespace

absl::Status CheckDisjoint(const Json& root, const SchemaNode& one_of) {
  const size_t count = one_of.json->size();
  if (count > kMaxSchemas) return one_of.Error(absl::StrCat(count, " schemas; the limit is ", kMaxSchemas));
  std::vector<SchemaNode> schemas;
  for (size_t i = 0; i < count; ++i) {
    TANDEM_ASSIGN_OR_RETURN(SchemaNode schema, Target(root, one_of.Child(i)));
    schemas.push_back(std::move(schema));
  }
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      TANDEM_ASSIGN_OR_RETURN(const bool disjoint, Disjoint(root, schemas[i], schemas[j]));
      if (disjoint) continue;
      return one_of.Error(absl::StrCat("a value might satisfy both number ", i, " and number ", j,
                                       "; use anyOf, or give them different types or a required property with "
                                       "different values"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine::grammar
