// SentencePiece's precompiled table of characters and their normal forms: tokenizer.ggml.precompiled_charsmap.
//
//   u32 bytes of the trie | trie: u32 units of a double array | replacements, each ended by a zero byte
//
// A unit of the double array (darts-clone) packs: bits 0-7 the label by which its parent reaches it, bit 8 whether a
// key ends here, bits 10-30 the offset to its children (times 256 if bit 9 is set); with bit 31, bits 0-30 are the
// value of a key: where its replacement starts. All numbers are little-endian.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Immutable, hence thread-safe. The table comes from a file: every index is checked where it is followed.
class Charsmap {
 public:
  struct Match {
    size_t bytes = 0;  // of the text that is replaced; 0: none
    absl::string_view replacement;
  };

  // An empty map, which replaces nothing.
  Charsmap() = default;
  // Errors: kInvalidArgument (sizes that do not add up, a last replacement without its zero byte).
  static absl::StatusOr<Charsmap> Parse(absl::string_view bytes);

  // The longest key that `text` starts with.
  Match LongestMatch(absl::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace tandem::engine
