#include "engine/tokenizer/charsmap.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::engine {
namespace {

constexpr absl::string_view kKey = "tokenizer.ggml.precompiled_charsmap";
constexpr uint32_t kValueBit = 1u << 31;

uint32_t LoadU32(absl::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return value;
}

bool KeyEnds(uint32_t unit) { return ((unit >> 8) & 1) != 0; }
// A unit that holds a value has the label kValueBit | ..., which no byte equals.
uint32_t Label(uint32_t unit) { return unit & (kValueBit | 0xFF); }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(absl::string_view bytes) {
  if (bytes.size() < 4) {
    return absl::InvalidArgumentError(absl::StrCat(kKey, " has ", bytes.size(), " bytes; its header alone has 4"));
  }
  const uint32_t trie_bytes = LoadU32(bytes);
  bytes.remove_prefix(4);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > bytes.size()) {
    return absl::InvalidArgumentError(absl::StrCat(kKey, " says that its trie has ", trie_bytes, " bytes; ",
                                                   bytes.size(), " follow, and it must be a multiple of 4"));
  }
  Charsmap map;
  map.units_.resize(trie_bytes / 4);
  for (size_t i = 0; i < map.units_.size(); ++i) map.units_[i] = LoadU32(bytes.substr(4 * i));
  map.replacements_ = std::string(bytes.substr(trie_bytes));
  if (!map.replacements_.empty() && map.replacements_.back() != '\0') {
    return absl::InvalidArgumentError(absl::StrCat(kKey, ": the last replacement does not end with a zero byte"));
  }
  return map;
}

Charsmap::Match Charsmap::LongestMatch(absl::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  size_t node = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || Label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (!KeyEnds(unit)) continue;
    if (node >= units_.size()) break;
    const size_t start = units_[node] & ~kValueBit;
    if (start >= replacements_.size()) break;
    match = {i + 1, replacements_.c_str() + start};
  }
  return match;
}

}  // namespace tandem::engine
