// Internal to engine/gguf: text from a file made safe to show. FormatValue (gguf_file.h) is implemented beside it.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::engine {

// `text` as valid UTF-8 without control characters: printable characters stay, everything else is written \xNN. With
// more than `max_bytes` bytes it is cut there and ends in "...".
std::string Displayable(absl::string_view text, size_t max_bytes);

// Longest key or tensor name that an error message repeats.
inline constexpr size_t kMaxShownName = 64;

}  // namespace tandem::engine
