// Guesses how a text goes on from what followed when it went like this before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace tandem::coordinator {

// How it is known that a text goes on as at an earlier place.
enum class MatchKind : uint8_t {
  kNone,
  kShort,     // the few tokens before are the same
  kLong,      // the many tokens before are the same
  kNear,      // it was copied from near there up to an edit, and one token or a few since then are the same
  kReplaced,  // the same, but as many tokens as were copied were replaced, and the next may be the same again
};

// Of one text, an earlier place where it may have gone as it goes at its end.
struct NgramMatch {
  MatchKind kind = MatchKind::kNone;
  int32_t after = 0;   // the token that followed there
  int32_t length = 0;  // how many tokens before it are as at the end
};

// The places behind every pair of tokens of one text, so that the longest of its endings that occurred before is found
// at once ("prompt lookup"). Good where an answer repeats its prompt or itself: code that is edited, quotations, lists.
// Owned by its sequence; not thread-safe. Memory: at most some 45 bytes a token.
class NgramGuesser {
 public:
  // The longest match of the end of `tokens` and `ahead`, which are guesses themselves, the latest if several are
  // equal; at least two tokens, and no more than kMaxLength are counted. Where there is no long one, but was one not
  // long ago, the place next to where the copy would be that matches better. `tokens` begins with that of the call
  // before. O(1) for each token that is new since then, and for each of the latest kMaxPlaces places that are compared.
  NgramMatch Find(std::span<const int32_t> tokens, std::span<const int32_t> ahead);
  // Appends the `count` tokens that followed on the match to `ahead`, both as for Find.
  static void Append(const NgramMatch& match, int32_t count, std::span<const int32_t> tokens,
                     std::vector<int32_t>* ahead);

  static constexpr int32_t kMaxLength = 32, kMaxPlaces = 128;
  static constexpr int32_t kLongLength = 8;  // of a long match
  // Tokens that an edit takes away or adds, and those since the last match, up to which a copy may go on behind it.
  static constexpr int32_t kMaxEdit = 16;

 private:
  // The token that is guessed at a place of the text is copied from so far before it, since the latest match of Find,
  // which was at matched_end_. 0: nothing was copied.
  int32_t distance_ = 0, matched_end_ = 0;
  absl::flat_hash_map<uint64_t, int32_t> latest_;  // by a pair of tokens, the latest place behind it
  std::vector<int32_t> earlier_;                   // by place, the one before behind the same pair; 0: none
};

}  // namespace tandem::coordinator
