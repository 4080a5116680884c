#include "engine/chat/text_ops.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "engine/tokenizer/utf8.h"

namespace tandem::engine::jinja {
namespace {

// Python's str.isspace.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsSpace(absl::string_view character) {
  const Utf8Step step = NextUtf8(character);
  return step.status == Utf8Status::kWhole && IsSpace(step.code_point);
}

// Applies `map` to each character; `map` also hears whether the character before was a letter.
template <typename Map>
std::string MapCharacters(absl::string_view text, Map map) {
  std::string out;
  out.reserve(text.size());
  bool after_letter = false;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.status == Utf8Status::kWhole) {
      const auto c = static_cast<utf8proc_int32_t>(step.code_point);
      AppendUtf8(static_cast<char32_t>(map(c, after_letter)), &out);
      const utf8proc_category_t category = utf8proc_category(c);
      after_letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    } else {
      out.append(text.data(), step.bytes);
      after_letter = false;
    }
    text.remove_prefix(step.bytes);
  }
  return out;
}

}  // namespace

std::vector<absl::string_view> Characters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  while (!text.empty()) {
    const size_t bytes = NextUtf8(text).bytes;
    characters.push_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return characters;
}

size_t CharacterCount(absl::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(NextUtf8(text).bytes);
  return count;
}

absl::string_view Strip(absl::string_view text, absl::string_view chars, bool left, bool right) {
  const std::vector<absl::string_view> set = Characters(chars);
  const auto strips = [&](absl::string_view character) {
    return set.empty() ? IsSpace(character) : std::find(set.begin(), set.end(), character) != set.end();
  };
  while (left && !text.empty()) {
    const size_t bytes = NextUtf8(text).bytes;
    if (!strips(text.substr(0, bytes))) break;
    text.remove_prefix(bytes);
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;  // of the last character: back over at most three continuation bytes
    while (start > 0 && text.size() - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (start + NextUtf8(text.substr(start)).bytes != text.size()) start = text.size() - 1;
    if (!strips(text.substr(start))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

std::vector<absl::string_view> Split(absl::string_view text, absl::string_view separator, int64_t max_splits) {
  std::vector<absl::string_view> pieces;
  const auto may_split = [&] { return max_splits < 0 || static_cast<int64_t>(pieces.size()) < max_splits; };
  if (!separator.empty()) {
    while (may_split()) {
      const size_t at = text.find(separator);
      if (at == absl::string_view::npos) break;
      pieces.push_back(text.substr(0, at));
      text.remove_prefix(at + separator.size());
    }
    pieces.push_back(text);
    return pieces;
  }
  text = Strip(text, "", true, false);
  while (!text.empty()) {
    if (!may_split()) {
      pieces.push_back(Strip(text, "", false, true));
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const size_t bytes = NextUtf8(text.substr(end)).bytes;
      if (IsSpace(text.substr(end, bytes))) break;
      end += bytes;
    }
    pieces.push_back(text.substr(0, end));
    text = Strip(text.substr(end), "", true, false);
  }
  return pieces;
}

std::string ToUpper(absl::string_view text) {
  return MapCharacters(text, [](utf8proc_int32_t c, bool) { return utf8proc_toupper(c); });
}

std::string ToLower(absl::string_view text) {
  return MapCharacters(text, [](utf8proc_int32_t c, bool) { return utf8proc_tolower(c); });
}

std::string Capitalize(absl::string_view text) {
  bool first = true;
  return MapCharacters(text, [&first](utf8proc_int32_t c, bool) {
    return std::exchange(first, false) ? utf8proc_totitle(c) : utf8proc_tolower(c);
  });
}

std::string Title(absl::string_view text) {
  return MapCharacters(text, [](utf8proc_int32_t c, bool after_letter) {
    return after_letter ? utf8proc_tolower(c) : utf8proc_totitle(c);
  });
}

}  // namespace tandem::engine::jinja
