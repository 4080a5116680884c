#include "engine/chat/value_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine::jinja {
namespace {

void AppendReprOfString(absl::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != absl::string_view::npos;
  const bool has_double = text.find('"') != absl::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out->push_back(quote);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '\r') {
      out->append("\\r");
    } else if (c == '\t') {
      out->append("\\t");
    } else if (byte < 0x20 || byte == 0x7F) {
      absl::StrAppendFormat(out, "\\x%02x", byte);
    } else {
      out->push_back(c);
    }
  }
  out->push_back(quote);
}

void AppendJsonUnit(char32_t unit, std::string* out) {
  absl::StrAppendFormat(out, "\\u%04x", static_cast<uint32_t>(unit));
}

void AppendJsonString(absl::string_view text, bool ensure_ascii, std::string* out) {
  out->push_back('"');
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const char c = text[0];
    if (step.bytes > 1 && step.status == Utf8Status::kWhole && ensure_ascii) {
      if (step.code_point < 0x10000) {
        AppendJsonUnit(step.code_point, out);
      } else {
        AppendJsonUnit(0xD800 + ((step.code_point - 0x10000) >> 10), out);
        AppendJsonUnit(0xDC00 + ((step.code_point - 0x10000) & 0x3FF), out);
      }
    } else if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '\r') {
      out->append("\\r");
    } else if (c == '\t') {
      out->append("\\t");
    } else if (c == '\b') {
      out->append("\\b");
    } else if (c == '\f') {
      out->append("\\f");
    } else if (static_cast<unsigned char>(c) < 0x20) {
      AppendJsonUnit(static_cast<unsigned char>(c), out);
    } else {
      out->append(text.data(), step.bytes);
    }
    text.remove_prefix(step.bytes);
  }
  out->push_back('"');
}

class JsonWriter {
 public:
  JsonWriter(const JsonOptions& options, size_t max_bytes, std::string* out)
      : options_(options), max_bytes_(max_bytes), out_(out) {}

  absl::Status Write(const Value& value, int level) {
    if (out_->size() > max_bytes_) return absl::OkStatus();
    if (value.is_none()) {
      out_->append("null");
    } else if (const bool* b = value.if_bool()) {
      out_->append(*b ? "true" : "false");
    } else if (const int64_t* i = value.if_int()) {
      absl::StrAppend(out_, *i);
    } else if (const double* d = value.if_float()) {
      out_->append(std::isnan(*d) ? "NaN" : std::isinf(*d) ? (*d > 0 ? "Infinity" : "-Infinity") : FloatText(*d));
    } else if (const std::string* s = value.if_string()) {
      AppendJsonString(*s, options_.ensure_ascii, out_);
    } else if (const List* list = value.if_list()) {
      return WriteList(*list, level);
    } else if (const Dict* dict = value.if_dict()) {
      return WriteDict(*dict, level);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("tojson cannot write a value of type ", value.TypeName()));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status WriteList(const List& list, int level) {
    if (list.items.empty()) {
      out_->append("[]");
      return absl::OkStatus();
    }
    out_->push_back('[');
    for (size_t i = 0; i < list.items.size(); ++i) {
      Separate(i == 0, level + 1);
      TANDEM_RETURN_IF_ERROR(Write(list.items[i], level + 1));
    }
    NewLine(level);
    out_->push_back(']');
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Dict& dict, int level) {
    if (dict.entries.empty()) {
      out_->append("{}");
      return absl::OkStatus();
    }
    std::vector<const std::pair<std::string, Value>*> order;
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (options_.sort_keys) {
      std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    out_->push_back('{');
    for (size_t i = 0; i < order.size(); ++i) {
      Separate(i == 0, level + 1);
      AppendJsonString(order[i]->first, options_.ensure_ascii, out_);
      out_->append(options_.key_separator);
      TANDEM_RETURN_IF_ERROR(Write(order[i]->second, level + 1));
    }
    NewLine(level);
    out_->push_back('}');
    return absl::OkStatus();
  }

  void Separate(bool first, int level) {
    if (!first) out_->append(options_.indent < 0 ? options_.item_separator : ",");
    NewLine(level);
  }

  void NewLine(int level) {
    if (options_.indent < 0) return;
    out_->push_back('\n');
    out_->append(static_cast<size_t>(options_.indent) * static_cast<size_t>(level), ' ');
  }

  const JsonOptions& options_;
  const size_t max_bytes_;
  std::string* const out_;
};

}  // namespace

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double magnitude = std::fabs(value);
  const bool fixed = magnitude == 0.0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                    fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, result.ptr);
  if (fixed && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void AppendRepr(const Value& value, size_t max_bytes, std::string* out) {
  if (out->size() > max_bytes) return;
  if (value.is_undefined()) {
    out->append("Undefined");
  } else if (value.is_none()) {
    out->append("None");
  } else if (const bool* b = value.if_bool()) {
    out->append(*b ? "True" : "False");
  } else if (const int64_t* i = value.if_int()) {
    absl::StrAppend(out, *i);
  } else if (const double* d = value.if_float()) {
    out->append(FloatText(*d));
  } else if (const std::string* s = value.if_string()) {
    AppendReprOfString(*s, out);
  } else if (const List* list = value.if_list()) {
    out->push_back('[');
    for (size_t k = 0; k < list->items.size(); ++k) {
      if (k > 0) out->append(", ");
      AppendRepr(list->items[k], max_bytes, out);
    }
    out->push_back(']');
  } else if (const Dict* dict = value.if_dict()) {
    out->push_back('{');
    for (size_t k = 0; k < dict->entries.size(); ++k) {
      if (k > 0) out->append(", ");
      AppendReprOfString(dict->entries[k].first, out);
      out->append(": ");
      AppendRepr(dict->entries[k].second, max_bytes, out);
    }
    out->push_back('}');
  } else {
    absl::StrAppend(out, "<", value.TypeName(), ">");
  }
}

absl::Status AppendJson(const Value& value, const JsonOptions& options, size_t max_bytes, std::string* out) {
  return JsonWriter(options, max_bytes, out).Write(value, 0);
}

}  // namespace tandem::engine::jinja
