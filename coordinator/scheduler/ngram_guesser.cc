#include "coordinator/scheduler/ngram_guesser.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "absl/types/span.h"

namespace tandem::coordinator {
namespace {

uint64_t Hash(std::span<const int32_t> tokens) {
  return absl::HashOf(absl::MakeConstSpan(tokens.data(), tokens.size()));
}

}  // namespace

std::vector<int32_t> NgramGuesser::Guess(std::span<const int32_t> tokens, int32_t most) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  for (; known_ + 1 < size; ++known_) {
    for (size_t i = 0; i < kLengths.size(); ++i) {
      const int32_t begin = known_ + 1 - kLengths[i];
      if (begin >= 0) after_[i][Hash(tokens.subspan(begin, kLengths[i]))] = known_ + 1;
    }
  }
  for (size_t i = 0; i < kLengths.size() && most > 0; ++i) {
    if (size < kLengths[i]) continue;
    const std::span<const int32_t> ending = tokens.last(kLengths[i]);
    const auto found = after_[i].find(Hash(ending));
    if (found == after_[i].end()) continue;
    const int32_t after = found->second;
    if (!std::ranges::equal(ending, tokens.subspan(after - kLengths[i], kLengths[i]))) continue;  // another's hash
    std::vector<int32_t> guesses;
    for (int32_t j = after; j < after + most; ++j) {
      guesses.push_back(j < size ? tokens[j] : guesses[j - size]);  // beyond the end the text repeats itself
    }
    return guesses;
  }
  return {};
}

}  // namespace tandem::coordinator
