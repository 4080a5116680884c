#include "engine/grammar/token_trie.h"

#include <algorithm>
#include <utility>

namespace tandem::engine::grammar {

TokenTrie::TokenTrie(std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (int32_t token = 0; token < vocab_size(); ++token) {
    if (!texts_[token].empty() && texts_[token].size() <= kMaxTokenBytes) order_.push_back(token);
  }
  std::sort(order_.begin(), order_.end(),
            [this](int32_t a, int32_t b) { return texts_[a] < texts_[b] || (texts_[a] == texts_[b] && a < b); });
  nodes_.push_back({0, 0, 0, 0});
  std::vector<int32_t> path = {0};  // nodes from the root to the latest
  const auto close = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) nodes_[path.back()].subtree_end = size();
  };
  absl::string_view previous;
  for (size_t i = 0; i < order_.size(); ++i) {
    const absl::string_view text = texts_[order_[i]];
    size_t shared = 0;
    while (shared < previous.size() && shared < text.size() && previous[shared] == text[shared]) ++shared;
    close(shared);
    for (size_t at = shared; at < text.size(); ++at) {
      path.push_back(size());
      // Tokens of the nodes on the way come before, that of the last node is number i.
      nodes_.push_back({0, static_cast<int32_t>(i), static_cast<uint16_t>(at + 1), static_cast<uint8_t>(text[at])});
    }
    max_depth_ = std::max(max_depth_, static_cast<int>(text.size()));
    previous = text;
  }
  close(0);
  nodes_[0].subtree_end = size();
}

std::shared_ptr<const TokenTrie> TokenTrie::Create(const Tokenizer& tokenizer) {
  std::vector<std::string> texts(static_cast<size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.IsEndOfGeneration(id)) texts[id] = tokenizer.Piece(id);
  }
  return std::make_shared<const TokenTrie>(std::move(texts));
}

}  // namespace tandem::engine::grammar
