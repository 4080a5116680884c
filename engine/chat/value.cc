#include "engine/chat/value.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace tandem::engine::jinja {
namespace {

// Depth of a value that becomes an element.
absl::StatusOr<int> ElementDepth(const Value& value) {
  if (value.if_namespace() || value.if_loop() || value.is_callable()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ", value.TypeName(), " cannot be an element of a list, a dict or a namespace"));
  }
  const int depth = value.if_list() ? value.if_list()->depth : value.if_dict() ? value.if_dict()->depth : 0;
  if (depth >= kMaxValueDepth) {
    return absl::InvalidArgumentError(absl::StrCat("values nest deeper than ", kMaxValueDepth, " levels"));
  }
  return depth;
}

}  // namespace

const Value* Dict::Find(absl::string_view key) const {
  const auto it = index.find(key);
  return it == index.end() ? nullptr : &entries[it->second].second;
}

absl::StatusOr<Value> Value::MakeList(std::vector<Value> items) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) {
    const auto depth = ElementDepth(item);
    if (!depth.ok()) return depth.status();
    list->depth = std::max(list->depth, *depth + 1);
  }
  list->items = std::move(items);
  return Value(Data(std::shared_ptr<const List>(std::move(list))));
}

absl::StatusOr<Value> Value::MakeDict(std::vector<std::pair<std::string, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : entries) {
    const auto depth = ElementDepth(value);
    if (!depth.ok()) return depth.status();
    dict->depth = std::max(dict->depth, *depth + 1);
    const auto [it, is_new] = dict->index.try_emplace(key, dict->entries.size());
    if (is_new) {
      dict->entries.emplace_back(key, std::move(value));
    } else {
      dict->entries[it->second].second = std::move(value);
    }
  }
  return Value(Data(std::shared_ptr<const Dict>(std::move(dict))));
}

double Value::AsDouble() const {
  if (const bool* b = if_bool()) return *b ? 1.0 : 0.0;
  if (const int64_t* i = if_int()) return static_cast<double>(*i);
  if (const double* d = if_float()) return *d;
  return 0.0;
}

bool Value::Truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return AsDouble() != 0.0;
  if (const std::string* s = if_string()) return !s->empty();
  if (const List* list = if_list()) return !list->items.empty();
  if (const Dict* dict = if_dict()) return !dict->entries.empty();
  return true;
}

absl::string_view Value::TypeName() const {
  static constexpr absl::string_view kNames[] = {"undefined value", "none",   "bool",  "int",
                                                 "float",           "string", "list",  "dict",
                                                 "namespace",       "loop",   "macro", "function"};
  static_assert(std::size(kNames) == std::variant_size_v<Data>);
  return kNames[data_.index()];
}

bool Equals(const Value& a, const Value& b, int64_t* budget) {
  if (--*budget < 0) return false;
  if (a.is_number() && b.is_number()) {
    if (a.if_int() && b.if_int()) return *a.if_int() == *b.if_int();
    return a.AsDouble() == b.AsDouble();
  }
  if (a.data().index() != b.data().index()) return false;
  if (a.if_string()) {
    *budget -= static_cast<int64_t>(a.if_string()->size() / 64);
    return *a.if_string() == *b.if_string();
  }
  if (a.if_list()) {
    const auto& x = a.if_list()->items;
    const auto& y = b.if_list()->items;
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [budget](const Value& p, const Value& q) { return Equals(p, q, budget); });
  }
  if (a.if_dict()) {
    const Dict& x = *a.if_dict();
    const Dict& y = *b.if_dict();
    if (x.entries.size() != y.entries.size()) return false;
    return std::all_of(x.entries.begin(), x.entries.end(), [&](const auto& entry) {
      const Value* other = y.Find(entry.first);
      return other != nullptr && Equals(entry.second, *other, budget);
    });
  }
  return a.data() == b.data();
}

}  // namespace tandem::engine::jinja
