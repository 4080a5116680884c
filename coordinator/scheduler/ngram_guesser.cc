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

std::vector<int32_t> NgramGuesser::Guess(std::span<const int32_t> tokens, std::span<const int32_t> ahead,
                                         int32_t most) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  for (; known_ + 1 < size; ++known_) {
    for (size_t i = 0; i < kLengths.size(); ++i) {
      const int32_t begin = known_ + 1 - kLengths[i];
      if (begin >= 0) after_[i][Hash(tokens.subspan(begin, kLengths[i]))] = known_ + 1;
    }
  }
  // The last tokens and the guesses behind them, to which those found are appended.
  std::vector<int32_t> text(tokens.end() - std::min(size, kLengths[0]), tokens.end());
  const int32_t begin = size - static_cast<int32_t>(text.size());
  text.insert(text.end(), ahead.begin(), ahead.end());
  const int32_t end = begin + static_cast<int32_t>(text.size());
  for (size_t i = 0; i < kLengths.size() && most > 0; ++i) {
    if (end - begin < kLengths[i]) continue;
    const std::span<const int32_t> ending = std::span<const int32_t>(text).last(kLengths[i]);
    const auto found = after_[i].find(Hash(ending));
    if (found == after_[i].end()) continue;
    const int32_t after = found->second;
    if (!std::ranges::equal(ending, tokens.subspan(after - kLengths[i], kLengths[i]))) continue;  // another's hash
    for (int32_t j = after; j < after + most; ++j) {
      text.push_back(j < size ? tokens[j] : text[j - begin]);  // beyond the end the text repeats itself
    }
    return {text.end() - most, text.end()};
  }
  return {};
}

}  // namespace tandem::coordinator
