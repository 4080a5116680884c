#include "absl/strings/match.h"
#include "engine/base/status_macros.h"
#include "engine/chat/builtins.h"
#include "engine/chat/operators.h"
#include "engine/chat/text_ops.h"

namespace tandem::engine::jinja {
namespace {

absl::Status Unsupported(const Value& object, absl::string_view name) {
  return absl::InvalidArgumentError(
      absl::StrCat("the method \"", name, "\" of a ", object.TypeName(), " is not supported"));
}

absl::StatusOr<Value> Text(std::string text, Budget* budget) {
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size()));
  return Value::String(std::move(text));
}

absl::StatusOr<Value> SplitMethod(const std::string& text, const Arguments& arguments, Budget* budget) {
  std::string separator;
  if (const Value* given = arguments.Find(0, "sep"); given != nullptr && !given->is_none()) {
    TANDEM_ASSIGN_OR_RETURN(separator, arguments.String(0, "sep"));
    if (separator.empty()) return absl::InvalidArgumentError("split needs a separator that is not empty");
  }
  TANDEM_ASSIGN_OR_RETURN(const int64_t max_splits, arguments.Int(1, "maxsplit", -1));
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size()));
  TANDEM_RETURN_IF_ERROR(ChargeSearch(text.size(), separator.size(), budget));
  std::vector<Value> pieces;
  for (const absl::string_view piece : Split(text, separator, max_splits)) {
    pieces.push_back(Value::String(std::string(piece)));
  }
  TANDEM_RETURN_IF_ERROR(budget->Bytes(pieces.size() * sizeof(Value)));
  return Value::MakeList(std::move(pieces));
}

// startswith and endswith take a string or a list of them.
absl::StatusOr<Value> AffixMethod(const std::string& text, absl::string_view name, const Arguments& arguments,
                                  Budget* budget) {
  std::vector<std::string> affixes;
  const Value* given = arguments.Find(0, "affix");
  if (given != nullptr && given->if_list()) {
    for (const Value& item : given->if_list()->items) {
      TANDEM_ASSIGN_OR_RETURN(std::string affix, TextOf(item, budget));
      affixes.push_back(std::move(affix));
    }
  } else {
    TANDEM_ASSIGN_OR_RETURN(std::string affix, arguments.String(0, "affix"));
    affixes.push_back(std::move(affix));
  }
  for (const std::string& affix : affixes) {
    if (name == "startswith" ? absl::StartsWith(text, affix) : absl::EndsWith(text, affix)) return Value::Bool(true);
  }
  return Value::Bool(false);
}

absl::StatusOr<Value> StringMethod(const Value& object, absl::string_view name, const Arguments& arguments,
                                   Budget* budget) {
  const std::string& text = *object.if_string();
  TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(text.size() / 64)));
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    std::string chars;
    if (const Value* given = arguments.Find(0, "chars"); given != nullptr && !given->is_none()) {
      TANDEM_ASSIGN_OR_RETURN(chars, arguments.String(0, "chars"));
      if (chars.empty()) return object;
    }
    return Text(std::string(Strip(text, chars, name != "rstrip", name != "lstrip")), budget);
  }
  if (name == "split") return SplitMethod(text, arguments, budget);
  if (name == "startswith" || name == "endswith") return AffixMethod(text, name, arguments, budget);
  if (name == "upper") return Text(ToUpper(text), budget);
  if (name == "lower") return Text(ToLower(text), budget);
  if (name == "capitalize") return Text(Capitalize(text), budget);
  if (name == "title") return Text(Title(text), budget);
  if (name == "replace") return ApplyFilter("replace", object, arguments, budget);
  if (name == "join") {
    Arguments separator;
    separator.positional.push_back(object);
    const Value* items = arguments.Find(0, "iterable");
    return ApplyFilter("join", items == nullptr ? Value() : *items, separator, budget);
  }
  if (name == "find") {
    TANDEM_ASSIGN_OR_RETURN(const std::string needle, arguments.String(0, "sub"));
    TANDEM_RETURN_IF_ERROR(ChargeSearch(text.size(), needle.size(), budget));
    const size_t at = text.find(needle);
    return Value::Int(
        at == std::string::npos ? -1 : static_cast<int64_t>(CharacterCount(absl::string_view(text).substr(0, at))));
  }
  return Unsupported(object, name);
}

absl::StatusOr<Value> DictMethod(const Value& object, absl::string_view name, const Arguments& arguments,
                                 Budget* budget) {
  const Dict& dict = *object.if_dict();
  if (name == "get") {
    TANDEM_ASSIGN_OR_RETURN(const std::string key, arguments.String(0, "key"));
    if (const Value* found = dict.Find(key)) return *found;
    const Value* fallback = arguments.Find(1, "default");
    return fallback == nullptr ? Value::MakeNone() : *fallback;
  }
  if (name == "items") return ApplyFilter("items", object, {}, budget);
  if (name != "keys" && name != "values") return Unsupported(object, name);
  TANDEM_RETURN_IF_ERROR(budget->Bytes(dict.entries.size() * sizeof(Value)));
  std::vector<Value> items;
  for (const auto& [key, value] : dict.entries) items.push_back(name == "keys" ? Value::String(key) : value);
  return Value::MakeList(std::move(items));
}

}  // namespace

absl::StatusOr<Value> CallMethod(const Value& object, absl::string_view name, const Arguments& arguments,
                                 Budget* budget) {
  if (object.is_undefined()) return Attribute(object, name);  // names what is undefined
  if (object.if_string()) return StringMethod(object, name, arguments, budget);
  if (object.if_dict()) return DictMethod(object, name, arguments, budget);
  return Unsupported(object, name);
}

}  // namespace tandem::engine::jinja
