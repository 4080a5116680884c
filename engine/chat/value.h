// The values of the template language.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine::jinja {

class Value;
struct Macro;  // ast.h

// Lists and dicts nest at most this deep, so that nothing that walks them can overflow the stack.
inline constexpr int kMaxValueDepth = 64;

struct List {
  std::vector<Value> items;
  int depth = 1;  // 1 + that of the deepest element
};

// Keys in the order of insertion.
struct Dict {
  std::vector<std::pair<std::string, Value>> entries;
  absl::flat_hash_map<std::string, size_t> index;  // key to position in entries
  int depth = 1;

  const Value* Find(absl::string_view key) const;  // null if absent
};

// The only value that changes: `{% set ns.x = ... %}`. Variables hold it, containers cannot, so no cycles arise.
struct Namespace {
  absl::flat_hash_map<std::string, Value> fields;
};

// What `loop` is inside a for.
struct LoopState {
  size_t index0 = 0;
  std::shared_ptr<const List> items;
};

// The functions that every template can call.
enum class Function { kNamespace, kRange, kDict, kRaiseException, kStrftimeNow };

struct Undefined {
  std::string name;  // for error messages
  bool operator==(const Undefined&) const { return true; }
};
struct None {
  bool operator==(const None&) const { return true; }
};

// Cheap to copy: strings, lists and dicts are shared and never change. Thread-compatible.
class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                            std::shared_ptr<const LoopState>, const Macro*, Function>;

  Value() : data_(Undefined{}) {}
  explicit Value(Data data) : data_(std::move(data)) {}
  static Value UndefinedNamed(absl::string_view name) { return Value(Data(Undefined{std::string(name)})); }
  static Value MakeNone() { return Value(Data(None{})); }
  static Value Bool(bool value) { return Value(Data(value)); }
  static Value Int(int64_t value) { return Value(Data(value)); }
  static Value Float(double value) { return Value(Data(value)); }
  static Value String(std::string value) { return Value(Data(std::make_shared<const std::string>(std::move(value)))); }
  // Errors: kInvalidArgument (nested deeper than kMaxValueDepth; an element is a namespace, a callable or `loop`). Of
  // equal keys the last counts, in the place of the first.
  static absl::StatusOr<Value> MakeList(std::vector<Value> items);
  static absl::StatusOr<Value> MakeDict(std::vector<std::pair<std::string, Value>> entries);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  const bool* if_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* if_int() const { return std::get_if<int64_t>(&data_); }
  const double* if_float() const { return std::get_if<double>(&data_); }
  const std::string* if_string() const { return Pointee<const std::string>(); }
  const List* if_list() const { return Pointee<const List>(); }
  const Dict* if_dict() const { return Pointee<const Dict>(); }
  Namespace* if_namespace() const { return Pointee<Namespace>(); }
  const LoopState* if_loop() const { return Pointee<const LoopState>(); }
  const Macro* if_macro() const {
    const auto* macro = std::get_if<const Macro*>(&data_);
    return macro == nullptr ? nullptr : *macro;
  }
  const Function* if_function() const { return std::get_if<Function>(&data_); }
  const Data& data() const { return data_; }

  bool is_callable() const { return if_macro() || if_function(); }
  bool is_number() const { return if_bool() || if_int() || if_float(); }
  double AsDouble() const;  // of a number (a bool is 0 or 1); 0 for anything else
  bool Truthy() const;      // Python's rules; undefined is false
  // "string", "dict" and so on, for messages.
  absl::string_view TypeName() const;

 private:
  template <typename T>
  T* Pointee() const {
    const auto* pointer = std::get_if<std::shared_ptr<T>>(&data_);
    return pointer == nullptr ? nullptr : pointer->get();
  }

  Data data_;
};

// Python's ==. A bool equals the number 0 or 1. Takes one from `*budget` for each pair of values that it looks at and
// stops (with any result) when that is below 0: lists that share elements can be exponentially large.
bool Equals(const Value& a, const Value& b, int64_t* budget);

}  // namespace tandem::engine::jinja
