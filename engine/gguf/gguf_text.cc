#include "engine/gguf/gguf_text.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {
namespace {

constexpr size_t kMaxShownItem = 48;

// Length of the printable UTF-8 character at the start of `text`; 0 if there is a control character or a byte that is
// not part of a well-formed character.
size_t PrintableLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3f);
  }
  if (code < 0xa0) return 0;                                                         // C1 control characters
  if (length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return 0;  // overlong, surrogates
  if (length == 4 && (code < 0x10000 || code > 0x10ffff)) return 0;
  return length;
}

void AppendItem(absl::string_view item, std::string* out) {
  absl::StrAppend(out, "\"", Displayable(item, kMaxShownItem), "\"");
}
void AppendItem(bool item, std::string* out) { out->append(item ? "true" : "false"); }
// Through the widest types: StrCat would take the 8-bit ones for characters.
template <typename T>
void AppendItem(T item, std::string* out) {
  if constexpr (std::is_floating_point_v<T>) {
    absl::StrAppend(out, item);
  } else if constexpr (std::is_signed_v<T>) {
    absl::StrAppend(out, static_cast<int64_t>(item));
  } else {
    absl::StrAppend(out, static_cast<uint64_t>(item));
  }
}

template <typename T>
std::string FormatArray(const std::vector<T>& items, size_t max_items) {
  std::string out = "[";
  for (size_t i = 0; i < std::min(items.size(), max_items); ++i) {
    if (i > 0) out += ", ";
    AppendItem(static_cast<T>(items[i]), &out);
  }
  if (items.size() > max_items) absl::StrAppend(&out, max_items > 0 ? ", " : "", "... ", items.size(), " in all");
  return out + "]";
}

}  // namespace

std::string Displayable(absl::string_view text, size_t max_bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  size_t at = 0;
  while (at < text.size() && at < max_bytes) {
    const size_t length = PrintableLength(text.substr(at));
    if (length == 0) {
      const uint8_t byte = static_cast<uint8_t>(text[at++]);
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out.append(text.data() + at, length);
      at += length;
    }
  }
  if (at < text.size()) out += "...";
  return out;
}

std::string FormatValue(const GgufValue& value, size_t max_items) {
  return std::visit(
      [max_items](const auto& held) -> std::string {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, GgufArray>) {
          return std::visit([max_items](const auto& items) { return FormatArray(items, max_items); }, held);
        } else if constexpr (std::is_same_v<T, absl::string_view>) {
          return absl::StrCat("\"", Displayable(held, std::numeric_limits<size_t>::max()), "\"");
        } else {
          std::string out;
          AppendItem(held, &out);
          return out;
        }
      },
      value);
}

}  // namespace tandem::engine
