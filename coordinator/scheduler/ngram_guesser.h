// Guesses how a text goes on from what followed the last time it went like this.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace tandem::coordinator {

// The place after the latest occurrence of every few tokens of one text, so that the longest of its endings that
// occurred before is found at once ("prompt lookup"). Good where an answer repeats its prompt or itself: code that is
// edited, quotations, lists. Owned by its sequence; not thread-safe. Memory: some 50 bytes a token.
class NgramGuesser {
 public:
  // Up to `most` tokens that may follow on `tokens`, which begin with those of the call before, and on `ahead`, which
  // are guesses themselves. Empty if the ending is new. O(1) for each token that is new since the last call, and each
  // of `ahead`.
  std::vector<int32_t> Guess(std::span<const int32_t> tokens, std::span<const int32_t> ahead, int32_t most);

 private:
  // Endings that are looked for, longest first: longer ones are right more often, shorter ones are found more often.
  static constexpr std::array<int32_t, 3> kLengths = {5, 3, 2};

  std::array<absl::flat_hash_map<uint64_t, int32_t>, kLengths.size()> after_;  // by hash of the tokens before
  int32_t known_ = 0;  // tokens of which it is known what follows
};

}  // namespace tandem::coordinator
