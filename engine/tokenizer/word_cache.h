// Repeats the ids of words that one Encode has met before: ordinary text uses few words over and over.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {

// A direct-mapped table from a word to the place of its ids in the output that grows meanwhile. One Encode owns it; the
// words that it is shown must outlive it. Not thread-safe.
class WordCache {
 public:
  // `text_bytes`: of all words together, which sets the size of the table (at most 192 KiB).
  explicit WordCache(size_t text_bytes)
      : slots_(std::bit_ceil(std::clamp<size_t>(text_bytes / 8, 1, size_t{1} << 13))) {}

  // Appends the ids of `word` to `out`, by `encode(word)` if they are not at hand; that must depend on nothing but the
  // word. Between calls `out` may grow but not change.
  template <typename EncodeWord>
  void Append(absl::string_view word, std::vector<TokenId>* out, EncodeWord encode) {
    if (word.size() > kLongestWord) {
      encode(word);
      return;
    }
    Slot& slot = slots_[absl::Hash<absl::string_view>()(word) & (slots_.size() - 1)];
    if (slot.count > 0 && slot.word == word) {
      for (size_t i = slot.begin; i < slot.begin + slot.count; ++i) out->push_back((*out)[i]);
      return;
    }
    const size_t begin = out->size();
    encode(word);
    slot = {word, begin, out->size() - begin};
  }

 private:
  static constexpr size_t kLongestWord = 64;  // bytes; longer ones hardly ever come twice

  struct Slot {
    absl::string_view word;
    size_t begin = 0, count = 0;  // in the output; count 0: an empty slot, or a word without ids
  };
  std::vector<Slot> slots_;
};

}  // namespace tandem::engine
