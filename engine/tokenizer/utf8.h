// UTF-8 as bytes: finding character borders, telling invalid bytes from unfinished ones, encoding a code point.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::engine {

enum class Utf8Status {
  kWhole,      // a well-formed character (no overlong form, no surrogate, at most U+10FFFF)
  kInvalid,    // no continuation can make these bytes a character
  kTruncated,  // the text ends inside a character that is well-formed so far
};

struct Utf8Step {
  Utf8Status status;
  size_t bytes;         // 1..4: of the character, of the invalid run to replace as one, or up to the end of the text
  char32_t code_point;  // only for kWhole
};

// Looks at the first character of `text`, which must not be empty.
Utf8Step NextUtf8(absl::string_view text);

// Length in bytes of the longest well-formed start of `text`.
size_t ValidUtf8Prefix(absl::string_view text);

// Appends the UTF-8 form of `code_point`, which must be at most U+10FFFF.
void AppendUtf8(char32_t code_point, std::string* out);

// U+FFFD, which stands for bytes that are no character.
inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace tandem::engine
