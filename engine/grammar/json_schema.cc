#include "engine/grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/json_texts.h"
#include "engine/grammar/regex_parser.h"
#include "engine/grammar/schema_disjoint.h"
#include "engine/grammar/schema_node.h"
#include "engine/grammar/source_cursor.h"

namespace tandem::engine::grammar {
namespace {

constexpr size_t kMaxSchemaRules = 10'000;
constexpr int32_t kMaxCount = 100'000;  // of minItems, maxLength and the like
constexpr size_t kMaxPrefixItems = 64;
constexpr size_t kMaxNameBytes = 256;  // a level of the tree for each character

Expr Comma() { return Sequence({Literal(","), JsonSpace()}); }

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const Json& root) : root_(root) {}

  absl::StatusOr<RuleSet> Compile() {
    TANDEM_RETURN_IF_ERROR(RuleOf(SchemaNode{&root_, "#"}).status());
    while (!pending_.empty()) {
      const auto [node, rule] = std::move(pending_.front());
      pending_.pop_front();
      TANDEM_ASSIGN_OR_RETURN(Expr body, CompileNode(node));
      rules_.rules[rule].body = std::move(body);
      if (rules_.rules.size() > kMaxSchemaRules) {
        return node.Error(absl::StrCat("the schema needs more than ", kMaxSchemaRules, " rules"));
      }
    }
    return std::move(rules_);
  }

 private:
  // A schema given at several places is one rule, so that recursion ends. Compiled later.
  absl::StatusOr<Expr> RuleOf(const SchemaNode& node) {
    const auto [it, added] = numbers_.try_emplace(node.pointer, static_cast<int32_t>(rules_.rules.size()));
    if (added) {
      rules_.rules.push_back({absl::StrCat("the schema at ", node.pointer), {}});
      pending_.emplace_back(node, it->second);
    }
    return RuleRef(it->second);
  }
  Expr NewRule(const std::string& name, Expr body) {
    rules_.rules.push_back({name, std::move(body)});
    return RuleRef(static_cast<int32_t>(rules_.rules.size()) - 1);
  }

  absl::StatusOr<Expr> CompileNode(const SchemaNode& node) {
    if (node.json->is_boolean()) return node.json->get<bool>() ? AnyValue() : Chars({});
    if (!node.json->is_object()) return node.Error("a schema must be an object, true or false");
    TANDEM_RETURN_IF_ERROR(CheckKeywords(node));
    for (const char* keyword : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"}) {
      if (!node.Has(keyword)) continue;
      TANDEM_RETURN_IF_ERROR(CheckAlone(node, keyword));
      return CompileWhole(node, keyword);
    }
    TANDEM_ASSIGN_OR_RETURN(const TypeSet types, TypesOf(node));
    if (types == kAllTypes) return AnyValue();
    std::vector<Expr> choices;
    if ((types & kNull) != 0) choices.push_back(Literal("null"));
    if ((types & kBoolean) != 0) choices.push_back(Choice({Literal("true"), Literal("false")}));
    if ((types & (kNumber | kInteger)) != 0) {
      TANDEM_ASSIGN_OR_RETURN(Expr number, CompileNumber(node, (types & kNumber) == 0));
      choices.push_back(std::move(number));
    }
    if ((types & kString) != 0) {
      TANDEM_ASSIGN_OR_RETURN(Expr string, CompileString(node));
      choices.push_back(std::move(string));
    }
    if ((types & kArray) != 0) {
      TANDEM_ASSIGN_OR_RETURN(Expr array, CompileArray(node));
      choices.push_back(std::move(array));
    }
    if ((types & kObject) != 0) {
      TANDEM_ASSIGN_OR_RETURN(Expr object, CompileObject(node));
      choices.push_back(std::move(object));
    }
    return Choice(std::move(choices));
  }

  // A keyword that says all there is to say.
  absl::StatusOr<Expr> CompileWhole(const SchemaNode& node, const std::string& keyword) {
    const Json& value = (*node.json)[keyword];
    const SchemaNode at = node.Child(keyword);
    if (keyword == "$ref") {
      TANDEM_ASSIGN_OR_RETURN(const SchemaNode target, Resolve(root_, at));
      return RuleOf(target);
    }
    if (keyword == "const") return Literal(value.dump());
    if (!value.is_array() || value.empty()) return at.Error("a list with at least one entry is expected");
    if (keyword == "enum") return CompileEnum(node, value);
    if (keyword == "allOf" && value.size() > 1) return at.Error("only one schema is supported here; merge them");
    if (keyword == "oneOf") TANDEM_RETURN_IF_ERROR(CheckDisjoint(root_, at));
    std::vector<Expr> choices;
    for (size_t i = 0; i < value.size(); ++i) {
      TANDEM_ASSIGN_OR_RETURN(Expr choice, RuleOf(at.Child(i)));
      choices.push_back(std::move(choice));
    }
    return Choice(std::move(choices));
  }

  absl::StatusOr<Expr> CompileEnum(const SchemaNode& node, const Json& values) {
    TANDEM_ASSIGN_OR_RETURN(const TypeSet types, TypesOf(node));
    std::vector<Expr> choices;
    for (const Json& value : values) {
      if ((TypesOfValue(value) & types) != 0) choices.push_back(Literal(value.dump()));
    }
    if (choices.empty()) return node.Child("enum").Error("no value has the type that the schema asks for");
    return Choice(std::move(choices));
  }

  absl::StatusOr<Expr> CompileNumber(const SchemaNode& node, bool integer) {
    NumberBounds bounds{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    for (const char* keyword : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
      if (!node.Has(keyword)) continue;
      const Json& value = (*node.json)[keyword];
      if (!value.is_number()) return node.Child(keyword).Error("a number is expected");
      const double bound = value.get<double>();
      const bool exclusive = keyword[0] == 'e';
      if (keyword == absl::string_view("minimum") || keyword == absl::string_view("exclusiveMinimum")) {
        if (bound >= bounds.min) bounds.above = exclusive;  // of equal bounds the exclusive one comes second
        bounds.min = std::max(bounds.min, bound);
      } else {
        if (bound <= bounds.max) bounds.below = exclusive;
        bounds.max = std::min(bounds.max, bound);
      }
    }
    absl::StatusOr<Expr> expr = integer ? JsonInteger(bounds) : JsonNumber(bounds);
    if (!expr.ok()) return node.Error(expr.status().message());
    return expr;
  }

  absl::StatusOr<Expr> CompileString(const SchemaNode& node) {
    const bool sized = node.Has("minLength") || node.Has("maxLength");
    if (int{sized} + int{node.Has("pattern")} + int{node.Has("format")} > 1) {
      return node.Error("of the length, \"pattern\" and \"format\" of a string only one is supported");
    }
    if (node.Has("pattern")) {
      TANDEM_ASSIGN_OR_RETURN(const std::string pattern, node.String("pattern"));
      const absl::StatusOr<Expr> expr = ParseRegex(pattern);
      if (!expr.ok()) return node.Child("pattern").Error(expr.status().message());
      return JsonQuoted(JsonEscaped(*expr));
    }
    if (node.Has("format")) {
      TANDEM_ASSIGN_OR_RETURN(const std::string format, node.String("format"));
      std::optional<Expr> expr = JsonFormat(format);
      if (expr) return JsonQuoted(*std::move(expr));
      return node.Child("format").Error(
          absl::StrCat("the format \"", format, "\" is not supported; supported are ", kJsonFormats));
    }
    TANDEM_ASSIGN_OR_RETURN(const Counts counts, node.MinMax("minLength", "maxLength", kMaxCount));
    return JsonQuoted(Repeat(JsonStringChar(), counts.min, counts.max));
  }

  absl::StatusOr<Expr> CompileArray(const SchemaNode& node) {
    TANDEM_ASSIGN_OR_RETURN(const Counts counts, node.MinMax("minItems", "maxItems", kMaxCount));
    std::vector<Expr> prefix;
    if (node.Has("prefixItems")) {
      const Json& items = (*node.json)["prefixItems"];
      const SchemaNode at = node.Child("prefixItems");
      if (!items.is_array() || items.size() > kMaxPrefixItems) {
        return at.Error(absl::StrCat("a list of at most ", kMaxPrefixItems, " schemas is expected"));
      }
      for (size_t i = 0; i < items.size(); ++i) {
        TANDEM_ASSIGN_OR_RETURN(Expr item, RuleOf(at.Child(i)));
        prefix.push_back(std::move(item));
      }
    }
    const bool closed = node.Has("items") && (*node.json)["items"] == Json(false);
    Expr item = Chars({});
    if (node.Has("items") && !closed) {
      TANDEM_ASSIGN_OR_RETURN(item, RuleOf(node.Child("items")));
    } else if (!closed) {
      item = AnyValue();
    }
    const int32_t given = static_cast<int32_t>(prefix.size());
    const int32_t most = closed ? (counts.max == kUnbounded ? given : std::min(counts.max, given)) : counts.max;
    if (most != kUnbounded && most < counts.min) return node.Error("no array has so many items");
    // From the last item to the first: what follows item i may be missing once i + 1 >= min.
    const auto after = [&](int32_t i, Expr tail) {
      return i + 1 >= counts.min ? Optional(std::move(tail)) : std::move(tail);
    };
    Expr tail;
    const int32_t count = most == kUnbounded ? given : std::min(given, most);
    if (most == kUnbounded || most > count) {
      const int32_t before = std::max(count, 1);
      tail = Repeat(Sequence({Comma(), item}), std::max(0, counts.min - before),
                    most == kUnbounded ? kUnbounded : most - before);
    }
    for (int32_t i = count - 1; i > 0; --i) {
      tail = after(i - 1, Sequence({Comma(), prefix[static_cast<size_t>(i)], std::move(tail)}));
    }
    Expr items;
    if (most != 0) {
      items = Sequence({count > 0 ? prefix[0] : item, std::move(tail), JsonSpace()});
      if (counts.min == 0) items = Optional(std::move(items));
    }
    return Sequence({Literal("["), JsonSpace(), std::move(items), Literal("]")});
  }

  struct Property {
    Expr text;  // "name": value
    bool required;
  };

  absl::StatusOr<Expr> PropertyText(const std::string& name, Expr value) {
    return Sequence({Literal(Json(name).dump()), Literal(":"), JsonSpace(), std::move(value)});
  }

  absl::StatusOr<Expr> CompileObject(const SchemaNode& node) {
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> required, node.Strings("required"));
    absl::flat_hash_set<std::string> missing(required.begin(), required.end());
    const bool declares = node.Has("properties");
    const Json none = Json::object();
    const Json& declared = declares ? (*node.json)["properties"] : none;
    const SchemaNode at = node.Child("properties");
    if (!declared.is_object()) return at.Error("an object of schemas is expected");

    std::vector<Property> properties;
    std::vector<std::string> names;
    for (const auto& [name, schema] : declared.items()) {
      TANDEM_ASSIGN_OR_RETURN(Expr value, RuleOf(at.Child(name)));
      TANDEM_ASSIGN_OR_RETURN(Expr text, PropertyText(name, std::move(value)));
      properties.push_back({NewRule(absl::StrCat("the property at ", at.Child(name).pointer), std::move(text)),
                            missing.erase(name) > 0});
      names.push_back(name);
    }
    TANDEM_ASSIGN_OR_RETURN(std::optional<Expr> additional, AdditionalValue(node, !declares));
    for (const std::string& name : required) {
      if (!missing.contains(name)) continue;
      missing.erase(name);
      if (!additional) {
        return node.Child("required").Error(absl::StrCat("\"", name, "\" is no property that the schema declares"));
      }
      TANDEM_ASSIGN_OR_RETURN(Expr text, PropertyText(name, *additional));
      properties.push_back({std::move(text), true});
      names.push_back(name);
    }
    std::optional<Expr> extra;
    if (additional) {
      for (const std::string& name : names) {
        if (name.size() <= kMaxNameBytes) continue;
        return at.Error(absl::StrCat("beside additional properties a name may have ", kMaxNameBytes,
                                     " bytes; there is one of ", name.size()));
      }
      extra = NewRule(absl::StrCat("additional properties at ", node.pointer),
                      Sequence({JsonNameOtherThan(names), Literal(":"), JsonSpace(), *std::move(additional)}));
    }
    return Sequence({Literal("{"), JsonSpace(), Members(node, properties, extra), Literal("}")});
  }

  // The value of properties that are not declared; nullopt: there are none.
  absl::StatusOr<std::optional<Expr>> AdditionalValue(const SchemaNode& node, bool by_default) {
    if (!node.Has("additionalProperties")) return by_default ? std::make_optional(AnyValue()) : std::nullopt;
    const Json& value = (*node.json)["additionalProperties"];
    if (value == Json(false)) return std::nullopt;
    if (value == Json(true)) return std::make_optional(AnyValue());
    TANDEM_ASSIGN_OR_RETURN(Expr expr, RuleOf(node.Child("additionalProperties")));
    return std::make_optional(std::move(expr));
  }

  // Properties in order, optional ones present or not, then any number of `extra`; commas between them.
  Expr Members(const SchemaNode& node, const std::vector<Property>& properties, const std::optional<Expr>& extra) {
    // rest[i]: what may follow once something was written and property i is next.
    std::vector<Expr> rest(properties.size() + 1);
    if (extra) rest.back() = Repeat(Sequence({Comma(), *extra}), 0, kUnbounded);
    for (size_t i = properties.size(); i-- > 0;) {
      Expr here = Sequence({Comma(), properties[i].text});
      if (!properties[i].required) here = Optional(std::move(here));
      rest[i] = NewRule(absl::StrCat("the properties at ", node.pointer, " from number ", i + 1),
                        Sequence({std::move(here), rest[i + 1]}));
    }
    std::vector<Expr> first;
    bool may_be_empty = true;
    for (size_t i = 0; i < properties.size() && may_be_empty; ++i) {
      first.push_back(Sequence({properties[i].text, rest[i + 1], JsonSpace()}));
      may_be_empty = !properties[i].required;
    }
    if (may_be_empty && extra) first.push_back(Sequence({*extra, rest.back(), JsonSpace()}));
    if (may_be_empty) first.push_back(Expr());
    return Choice(std::move(first));
  }

  // Any JSON value; one rule for all places.
  Expr AnyValue() {
    if (any_value_ == -1) {
      any_value_ = static_cast<int32_t>(rules_.rules.size());
      rules_.rules.push_back({"any JSON value", {}});
      const Expr value = RuleRef(any_value_);
      const Expr string = JsonQuoted(Repeat(JsonStringChar(), 0, kUnbounded));
      const Expr member = Sequence({string, Literal(":"), JsonSpace(), value});
      const auto list = [](const char* open, const Expr& item, const char* close) {
        return Sequence({Literal(open), JsonSpace(),
                         Optional(Sequence({item, Repeat(Sequence({Comma(), item}), 0, kUnbounded), JsonSpace()})),
                         Literal(close)});
      };
      const NumberBounds unbounded{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
      rules_.rules[any_value_].body =
          Choice({Literal("null"), Literal("true"), Literal("false"), *JsonNumber(unbounded), string,
                  list("[", value, "]"), list("{", member, "}")});
    }
    return RuleRef(any_value_);
  }

  const Json& root_;
  RuleSet rules_;
  absl::flat_hash_map<std::string, int32_t> numbers_;  // rule by pointer
  std::deque<std::pair<SchemaNode, int32_t>> pending_;
  int32_t any_value_ = -1;
};

// The parser's stack is not ours, so the depth is known before it runs.
absl::Status CheckDepth(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMaxSchemaDepth) {
      return absl::InvalidArgumentError(absl::StrCat(SourceCursor(text).Place(i), ": the schema nests deeper than ",
                                                     kMaxSchemaDepth, " objects and arrays"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RuleSet> RulesOfJsonSchema(absl::string_view text) {
  if (text.size() > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the schema has ", text.size(), " bytes; the limit is ", kMaxSchemaBytes));
  }
  TANDEM_RETURN_IF_ERROR(CheckDepth(text));
  Json root;
  try {
    root = Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    const size_t at = std::min<size_t>(error.byte == 0 ? 0 : error.byte - 1, text.size());
    return absl::InvalidArgumentError(absl::StrCat(SourceCursor(text).Place(at), ": the schema is no JSON here"));
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("the schema is no JSON: ", error.what()));
  }
  return SchemaCompiler(root).Compile();
}

}  // namespace tandem::engine::grammar
