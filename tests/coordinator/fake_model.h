// A "model" for tests of the coordinator: the next token is a hash of all tokens before it, read back through the KV
// pages. A page that was shared, lost or stale therefore changes the answer.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace tandem::coordinator::testing {

inline constexpr int32_t kFakeVocab = 1000;
inline constexpr int32_t kFakeHidden = 4;  // the state at a token has it in every element

inline int32_t NextToken(std::span<const int32_t> history) {
  uint64_t hash = 1469598103934665603u;
  for (int32_t token : history) hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
  return static_cast<int32_t>((hash >> 20) % kFakeVocab);
}

// What is drawn behind `history`, whose last `guesses` tokens may not be what follows: one token, and one behind every
// guess that equals the draw before it.
inline std::vector<int32_t> Draw(std::span<const int32_t> history, int32_t guesses) {
  std::vector<int32_t> drawn;
  for (size_t known = history.size() - guesses;; ++known) {
    drawn.push_back(NextToken(history.first(known)));
    if (known == history.size() || drawn.back() != history[known]) return drawn;
  }
}

// What a sequence of its own would generate.
inline std::vector<int32_t> Continue(std::vector<int32_t> tokens, int count) {
  const size_t prompt = tokens.size();
  for (int i = 0; i < count; ++i) tokens.push_back(NextToken(tokens));
  return {tokens.begin() + static_cast<ptrdiff_t>(prompt), tokens.end()};
}

// The KV cache of one stage.
class FakeCache {
 public:
  explicit FakeCache(int32_t page_tokens) : page_tokens_(page_tokens) {}

  void Copy(uint32_t from, uint32_t to) {
    for (int32_t slot = 0; slot < page_tokens_; ++slot) cells_[{to, slot}] = cells_[{from, slot}];
  }

  // Writes the tokens of a slice and returns the whole history that attention would see.
  std::vector<int32_t> Run(int32_t position, std::span<const int32_t> tokens, std::span<const uint32_t> pages) {
    for (size_t i = 0; i < tokens.size(); ++i) At(position + static_cast<int32_t>(i), pages) = tokens[i];
    std::vector<int32_t> history;
    for (int32_t i = 0; i < position + static_cast<int32_t>(tokens.size()); ++i) history.push_back(At(i, pages));
    return history;
  }

 private:
  int32_t& At(int32_t position, std::span<const uint32_t> pages) {
    return cells_[{pages[position / page_tokens_], position % page_tokens_}];
  }

  const int32_t page_tokens_;
  std::map<std::pair<uint32_t, int32_t>, int32_t> cells_;
};

// Prompts that differ in their first tokens do so in all.
inline std::vector<int32_t> Prompt(int32_t first, int32_t length) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < length; ++i) tokens.push_back((first + 7 * i) % kFakeVocab);
  return tokens;
}

}  // namespace tandem::coordinator::testing
