// Finds the tokens that are spelled out in a text before it is tokenised: user-defined ones always, control tokens only
// where the caller allows.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// A trie over the spellings. Immutable, hence thread-safe. A search costs the length of the text times, at worst, the
// length of the longest spelling that the text starts to spell.
class SpecialTokens {
 public:
  // A piece of the text: ordinary text where token is -1, else the text that spells `token`.
  struct Fragment {
    absl::string_view text;
    TokenId token;
  };

  explicit SpecialTokens(const Vocabulary& vocabulary);

  // Cuts `text` from left to right; of several spellings at one place the longest wins. `parse_special`: control tokens
  // count too. The fragments follow each other without gaps, none is empty.
  std::vector<Fragment> Partition(absl::string_view text, bool parse_special) const;

 private:
  struct Node {
    TokenId token = -1;  // whose spelling ends here
    bool control = false;
    std::vector<std::pair<uint8_t, int32_t>> children;  // byte, index in nodes_; ascending
  };
  struct Match {
    TokenId token = -1;
    size_t bytes = 0;
  };

  int32_t Child(int32_t node, uint8_t byte) const;  // -1 if none
  Match LongestAt(absl::string_view text, bool parse_special) const;

  std::vector<Node> nodes_;            // nodes_[0] is the root
  std::array<bool, 256> starts_ = {};  // a spelling starts with this byte
};

}  // namespace tandem::engine
