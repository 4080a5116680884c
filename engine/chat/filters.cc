#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/chat/builtins.h"
#include "engine/chat/list_filters.h"
#include "engine/chat/operators.h"
#include "engine/chat/text_ops.h"
#include "engine/chat/value_text.h"

namespace tandem::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result Text(std::string text, Budget* budget) {
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size()));
  return Value::String(std::move(text));
}

Result NewList(std::vector<Value> items, Budget* budget) {
  TANDEM_RETURN_IF_ERROR(budget->Bytes(items.size() * sizeof(Value)));
  return Value::MakeList(std::move(items));
}

Result Trim(const Value& input, const Arguments& arguments, Budget* budget) {
  std::string chars;
  if (arguments.Find(0, "chars") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(chars, arguments.String(0, "chars"));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  return Text(std::string(Strip(text, chars, true, true)), budget);
}

Result Length(const Value& input, const Arguments&, Budget* budget) {
  if (const std::string* text = input.if_string()) {
    TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(text->size() / 64)));
    return Value::Int(static_cast<int64_t>(CharacterCount(*text)));
  }
  if (const List* list = input.if_list()) return Value::Int(static_cast<int64_t>(list->items.size()));
  if (const Dict* dict = input.if_dict()) return Value::Int(static_cast<int64_t>(dict->entries.size()));
  if (input.is_undefined()) return Value::Int(0);
  return absl::InvalidArgumentError(absl::StrCat("a ", input.TypeName(), " has no length"));
}

// A filter that maps the input's text.
template <std::string (*map)(absl::string_view)>
Result MapText(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  return Text(map(text), budget);
}

Result String(const Value& input, const Arguments&, Budget* budget) {
  if (input.if_string()) return input;
  TANDEM_ASSIGN_OR_RETURN(std::string text, TextOf(input, budget));
  return Value::String(std::move(text));
}

Result Join(const Value& input, const Arguments& arguments, Budget* budget) {
  const Value* separator = arguments.Find(0, "d");
  TANDEM_ASSIGN_OR_RETURN(const std::string between, TextOf(separator == nullptr ? Value() : *separator, budget));
  std::string attribute;
  if (arguments.Find(1, "attribute") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(attribute, arguments.String(1, "attribute"));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (!attribute.empty()) {
      TANDEM_ASSIGN_OR_RETURN(item, AttributePath(item, attribute));
    }
    TANDEM_ASSIGN_OR_RETURN(const std::string piece, TextOf(item, budget));
    TANDEM_RETURN_IF_ERROR(budget->Bytes(between.size()));
    if (i > 0) text += between;
    text += piece;
  }
  return Value::String(std::move(text));
}

Result Default(const Value& input, const Arguments& arguments, Budget*) {
  const Value* fallback = arguments.Find(0, "default_value");
  const Value* also_false = arguments.Find(1, "boolean");
  const bool replace = input.is_undefined() || (also_false != nullptr && also_false->Truthy() && !input.Truthy());
  if (!replace) return input;
  return fallback == nullptr ? Value::String("") : *fallback;
}

Result ToJson(const Value& input, const Arguments& arguments, Budget* budget) {
  JsonOptions options;
  constexpr int64_t kMaxIndent = 16;
  TANDEM_ASSIGN_OR_RETURN(const int64_t indent, arguments.Int(0, "indent", -1));
  options.indent = static_cast<int>(std::clamp<int64_t>(indent, -1, kMaxIndent));
  const Value* ascii = arguments.Find(1, "ensure_ascii");
  options.ensure_ascii = ascii != nullptr && ascii->Truthy();
  const Value* sort = arguments.Find(2, "sort_keys");
  options.sort_keys = sort != nullptr && sort->Truthy();
  const Value* separators = arguments.Find(3, "separators");
  if (separators != nullptr && separators->if_list() && separators->if_list()->items.size() == 2) {
    TANDEM_ASSIGN_OR_RETURN(options.item_separator, TextOf(separators->if_list()->items[0], budget));
    TANDEM_ASSIGN_OR_RETURN(options.key_separator, TextOf(separators->if_list()->items[1], budget));
  }
  std::string json;
  TANDEM_RETURN_IF_ERROR(AppendJson(input, options, kMaxOutputBytes, &json));
  if (json.size() > kMaxOutputBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("tojson makes more than ", kMaxOutputBytes, " bytes"));
  }
  return Text(std::move(json), budget);
}

Result ListFilter(const Value& input, const Arguments&, Budget* budget) {
  if (input.if_list()) return input;
  TANDEM_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(input, budget));
  return Value::MakeList(std::move(items));
}

Result Items(const Value& input, const Arguments&, Budget* budget) {
  if (input.is_undefined()) return Value::MakeList({});
  const Dict* dict = input.if_dict();
  if (dict == nullptr) return absl::InvalidArgumentError(absl::StrCat("a ", input.TypeName(), " has no items"));
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict->entries) {
    TANDEM_ASSIGN_OR_RETURN(Value pair, NewList({Value::String(key), value}, budget));
    pairs.push_back(std::move(pair));
  }
  return NewList(std::move(pairs), budget);
}

// By key, without regard to case.
Result DictSort(const Value& input, const Arguments& arguments, Budget* budget) {
  if (!arguments.positional.empty() || !arguments.keywords.empty()) {
    return absl::InvalidArgumentError("dictsort with arguments is not supported");
  }
  const Dict* dict = input.if_dict();
  if (dict == nullptr) return absl::InvalidArgumentError(absl::StrCat("a ", input.TypeName(), " has no items"));
  std::vector<std::pair<std::string, Value>> entries = dict->entries;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return ToLower(a.first) < ToLower(b.first); });
  TANDEM_ASSIGN_OR_RETURN(const Value sorted, Value::MakeDict(std::move(entries)));
  return Items(sorted, {}, budget);
}

Result First(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  return items.empty() ? Value::UndefinedNamed("first element") : items.front();
}

Result Last(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  return items.empty() ? Value::UndefinedNamed("last element") : items.back();
}

Result Reverse(const Value& input, const Arguments&, Budget* budget) {
  return Slice(input, Value::MakeNone(), Value::MakeNone(), Value::Int(-1), budget);
}

Result Replace(const Value& input, const Arguments& arguments, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::string from, arguments.String(0, "old"));
  TANDEM_ASSIGN_OR_RETURN(const std::string to, arguments.String(1, "new"));
  TANDEM_ASSIGN_OR_RETURN(int64_t count, arguments.Int(2, "count", -1));
  if (from.empty()) return absl::InvalidArgumentError("replace needs a text to look for that is not empty");
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  TANDEM_RETURN_IF_ERROR(ChargeSearch(text.size(), from.size(), budget));
  const size_t growth = to.size() > from.size() ? to.size() / from.size() + 1 : 1;
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size() * std::min<size_t>(growth, size_t{1} << 20)));
  std::string result;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos && count != 0; at = text.find(from, done), --count) {
    result.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return Value::String(result.append(text, done, std::string::npos));
}

// select, reject: by the element; selectattr, rejectattr: by its attribute, the first argument. A test may follow.
Result SelectBy(const Value& input, const Arguments& arguments, bool by_attribute, bool keep, Budget* budget) {
  const size_t test_index = by_attribute ? 1 : 0;
  std::string attribute, test;
  if (by_attribute) {
    TANDEM_ASSIGN_OR_RETURN(attribute, arguments.String(0, "attribute"));
  }
  Arguments rest;
  if (arguments.positional.size() > test_index) {
    TANDEM_ASSIGN_OR_RETURN(test, arguments.String(test_index, "test"));
    rest.positional.assign(arguments.positional.begin() + static_cast<ptrdiff_t>(test_index) + 1,
                           arguments.positional.end());
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  std::vector<Value> kept;
  for (const Value& item : items) {
    Value subject = item;
    if (by_attribute) {
      TANDEM_ASSIGN_OR_RETURN(subject, AttributePath(item, attribute));
    }
    bool passes = subject.Truthy();
    if (!test.empty()) {
      TANDEM_ASSIGN_OR_RETURN(passes, ApplyTest(test, subject, rest, budget));
    }
    if (passes == keep) kept.push_back(item);
  }
  return NewList(std::move(kept), budget);
}

Result Select(const Value& v, const Arguments& a, Budget* b) { return SelectBy(v, a, false, true, b); }
Result Reject(const Value& v, const Arguments& a, Budget* b) { return SelectBy(v, a, false, false, b); }
Result SelectAttr(const Value& v, const Arguments& a, Budget* b) { return SelectBy(v, a, true, true, b); }
Result RejectAttr(const Value& v, const Arguments& a, Budget* b) { return SelectBy(v, a, true, false, b); }

// map(attribute="x", default=...) or map("filter", its arguments).
Result Map(const Value& input, const Arguments& arguments, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  Arguments rest;
  std::string filter, attribute;
  if (!arguments.positional.empty()) {
    TANDEM_ASSIGN_OR_RETURN(filter, arguments.String(0, "filter"));
    rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
    rest.keywords = arguments.keywords;
  } else {
    TANDEM_ASSIGN_OR_RETURN(attribute, arguments.String(0, "attribute"));
  }
  constexpr size_t kNoPosition = std::numeric_limits<size_t>::max();
  const Value* fallback = filter.empty() ? arguments.Find(kNoPosition, "default") : nullptr;
  std::vector<Value> results;
  for (const Value& item : items) {
    Value result;
    if (filter.empty()) {
      TANDEM_ASSIGN_OR_RETURN(result, AttributePath(item, attribute));
      if (result.is_undefined() && fallback != nullptr) result = *fallback;
    } else if (filter == "map") {
      return absl::InvalidArgumentError("map of map is not supported");
    } else {
      TANDEM_ASSIGN_OR_RETURN(result, ApplyFilter(filter, item, rest, budget));
    }
    results.push_back(std::move(result));
  }
  return NewList(std::move(results), budget);
}

Result Unique(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(input, budget));
  std::vector<Value> kept;
  for (const Value& item : items) {
    const bool seen =
        std::any_of(kept.begin(), kept.end(), [&](const Value& other) { return Equals(item, other, budget->steps()); });
    TANDEM_RETURN_IF_ERROR(budget->Steps(1));
    if (!seen) kept.push_back(item);
  }
  return NewList(std::move(kept), budget);
}

Result Int(const Value& input, const Arguments& arguments, Budget*) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t fallback, arguments.Int(0, "default", 0));
  int64_t number = 0;
  if (const std::string* text = input.if_string())
    return Value::Int(absl::SimpleAtoi(*text, &number) ? number : fallback);
  if (input.if_int()) return input;
  constexpr double kLimit = 9.2e18;
  const double value = input.AsDouble();
  return Value::Int(std::fabs(value) < kLimit && input.is_number() ? static_cast<int64_t>(value) : fallback);
}

Result Float(const Value& input, const Arguments&, Budget*) {
  double number = 0;
  if (const std::string* text = input.if_string()) return Value::Float(absl::SimpleAtod(*text, &number) ? number : 0.0);
  return Value::Float(input.AsDouble());
}

Result Abs(const Value& input, const Arguments&, Budget*) {
  if (!input.is_number()) return absl::InvalidArgumentError(absl::StrCat("abs of a ", input.TypeName()));
  return input.AsDouble() < 0 ? Negate(input) : Result(input);
}

// round(precision, method "common", "ceil" or "floor").
Result Round(const Value& input, const Arguments& arguments, Budget*) {
  if (!input.is_number()) return absl::InvalidArgumentError(absl::StrCat("round of a ", input.TypeName()));
  TANDEM_ASSIGN_OR_RETURN(const int64_t precision, arguments.Int(0, "precision", 0));
  std::string method = "common";
  if (arguments.Find(1, "method") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(method, arguments.String(1, "method"));
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return absl::InvalidArgumentError(
        absl::StrCat("the method of round is \"", method, "\"; known are \"common\", \"ceil\" and \"floor\""));
  }
  if (precision < -300 || precision > 300) {
    return absl::InvalidArgumentError(absl::StrCat("round to ", precision, " digits; the limits are -300 and 300"));
  }
  if (method == "common" && precision >= 0) {
    if (input.if_int()) return input;
    double rounded =
        input.AsDouble();  // correctly rounded, as Python does; what cannot be read back is infinite or NaN
    if (std::isfinite(rounded))
      (void)absl::SimpleAtod(absl::StrFormat("%.*f", static_cast<int>(precision), rounded), &rounded);
    return Value::Float(rounded);
  }
  const double unit = std::pow(10.0, static_cast<double>(precision)), scaled = input.AsDouble() * unit;
  const double whole = method == "ceil"    ? std::ceil(scaled)
                       : method == "floor" ? std::floor(scaled)
                                           : std::nearbyint(scaled);
  return Value::Float(whole / unit);
}

// indent(width, first, blank): a width of spaces, or a text, in front of every line but the first.
Result Indent(const Value& input, const Arguments& arguments, Budget* budget) {
  std::string margin(4, ' ');
  if (const Value* width = arguments.Find(0, "width"); width != nullptr && width->if_string()) {
    margin = *width->if_string();
  } else if (width != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(const int64_t spaces, arguments.Int(0, "width", 4));
    constexpr int64_t kMaxWidth = 1000;
    if (spaces < 0 || spaces > kMaxWidth) {
      return absl::InvalidArgumentError(absl::StrCat("indent by ", spaces, "; the limits are 0 and ", kMaxWidth));
    }
    margin.assign(static_cast<size_t>(spaces), ' ');
  }
  const Value* first = arguments.Find(1, "first");
  const Value* blank = arguments.Find(2, "blank");
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  TANDEM_RETURN_IF_ERROR(budget->Steps(static_cast<int64_t>(lines)));
  TANDEM_RETURN_IF_ERROR(budget->Bytes(text.size()));
  if (!margin.empty()) TANDEM_RETURN_IF_ERROR(budget->Bytes(std::min(lines, size_t{1} << 32) * margin.size()));
  std::string out;
  for (size_t begin = 0, number = 0; begin <= text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const bool wanted =
        number == 0 ? first != nullptr && first->Truthy() : end > begin || (blank != nullptr && blank->Truthy());
    if (number > 0) out.push_back('\n');
    if (wanted) out += margin;
    out.append(text, begin, end - begin);
    begin = end + 1;
  }
  return Value::String(std::move(out));
}

Result WordCount(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  return Value::Int(static_cast<int64_t>(Split(text, "", -1).size()));
}

// For HTML.
Result Escape(const Value& input, const Arguments&, Budget* budget) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(input, budget));
  return Text(
      absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&#34;"}, {"'", "&#39;"}}),
      budget);
}

// Nothing is escaped here, so nothing needs marking as safe.
Result Safe(const Value& input, const Arguments&, Budget*) { return input; }

struct Filter {
  absl::string_view name;
  Result (*apply)(const Value&, const Arguments&, Budget*);
};
constexpr Filter kFilters[] = {
    {"abs", Abs},
    {"capitalize", MapText<Capitalize>},
    {"count", Length},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"e", Escape},
    {"escape", Escape},
    {"first", First},
    {"float", Float},
    {"indent", Indent},
    {"int", Int},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", Length},
    {"list", ListFilter},
    {"lower", MapText<ToLower>},
    {"map", Map},
    {"max", MaxFilter},
    {"min", MinFilter},
    {"reject", Reject},
    {"rejectattr", RejectAttr},
    {"replace", Replace},
    {"reverse", Reverse},
    {"round", Round},
    {"safe", Safe},
    {"select", Select},
    {"selectattr", SelectAttr},
    {"sort", SortFilter},
    {"string", String},
    {"sum", SumFilter},
    {"title", MapText<Title>},
    {"tojson", ToJson},
    {"trim", Trim},
    {"unique", Unique},
    {"upper", MapText<ToUpper>},
    {"wordcount", WordCount},
};

}  // namespace

absl::StatusOr<Value> ApplyFilter(absl::string_view name, const Value& input, const Arguments& arguments,
                                  Budget* budget) {
  const auto* filter = std::find_if(std::begin(kFilters), std::end(kFilters),
                                    [name](const Filter& candidate) { return candidate.name == name; });
  if (filter == std::end(kFilters)) {
    return absl::InvalidArgumentError(absl::StrCat("the filter \"", name, "\" is not supported"));
  }
  return filter->apply(input, arguments, budget);
}

}  // namespace tandem::engine::jinja
