// BERT's normalisation of text and its cut into words.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::engine {

struct NormalizedWords {
  std::string text;          // the words, one after the other
  std::vector<size_t> ends;  // of each word in `text`, ascending; no word is empty
};

// Control characters, U+FFFD and bytes that are no UTF-8 vanish; white space ends a word; a punctuation character and a
// CJK ideograph is a word by itself. `strip_accents`: characters are decomposed (NFD) and their nonspacing marks
// dropped.
NormalizedWords NormalizeWords(absl::string_view text, bool lower_case, bool strip_accents);

}  // namespace tandem::engine
