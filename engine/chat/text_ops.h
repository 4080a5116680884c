// String functions with Python's meaning: lengths and indices count characters, white space is Unicode's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::engine::jinja {

// Views of the characters of `text`; bytes that are no UTF-8 count as characters.
std::vector<absl::string_view> Characters(absl::string_view text);
size_t CharacterCount(absl::string_view text);

// Without the characters of `chars` (white space if empty) on the sides asked for.
absl::string_view Strip(absl::string_view text, absl::string_view chars, bool left, bool right);

// Pieces of `text` between occurrences of `separator`, at most `max_splits` cuts from the left (-1: all). An empty
// `separator` means runs of white space, and no empty pieces.
std::vector<absl::string_view> Split(absl::string_view text, absl::string_view separator, int64_t max_splits);

std::string ToUpper(absl::string_view text);
std::string ToLower(absl::string_view text);
std::string Capitalize(absl::string_view text);  // first character upper, the rest lower
std::string Title(absl::string_view text);       // likewise for each run of letters

}  // namespace tandem::engine::jinja
