#include "engine/chat/json_value.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine::jinja {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<Value> Convert(const Json& json, int depth) {
  if (depth > kMaxValueDepth) {
    return absl::InvalidArgumentError(absl::StrCat("the JSON nests deeper than ", kMaxValueDepth, " levels"));
  }
  if (json.is_null()) return Value::MakeNone();
  if (json.is_boolean()) return Value::Bool(json.get<bool>());
  if (json.is_string()) return Value::String(json.get<std::string>());
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(absl::StrCat("the integer ", json.get<uint64_t>(), " does not fit 64 bits"));
  }
  if (json.is_number_integer()) return Value::Int(json.get<int64_t>());
  if (json.is_number_float()) return Value::Float(json.get<double>());
  if (json.is_array()) {
    std::vector<Value> items;
    for (const Json& item : json) {
      TANDEM_ASSIGN_OR_RETURN(Value value, Convert(item, depth + 1));
      items.push_back(std::move(value));
    }
    return Value::MakeList(std::move(items));
  }
  std::vector<std::pair<std::string, Value>> entries;
  for (const auto& [key, item] : json.items()) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Convert(item, depth + 1));
    entries.emplace_back(key, std::move(value));
  }
  return Value::MakeDict(std::move(entries));
}

}  // namespace

absl::StatusOr<Value> ValueFromJson(absl::string_view text) {
  try {
    return Convert(Json::parse(text.begin(), text.end()), 0);
  } catch (const Json::exception& error) {  // the library tells the place of a mistake only so
    return absl::InvalidArgumentError(absl::StrCat("not JSON: ", error.what()));
  }
}

}  // namespace tandem::engine::jinja
