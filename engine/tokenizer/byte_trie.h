// The spellings of a vocabulary as a tree of bytes, to find all tokens that start at a place in a text.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {

// Built once, then immutable, hence thread-safe. A step is one look into a hash table.
class ByteTrie {
 public:
  static constexpr int64_t kRoot = 0;
  static constexpr int64_t kNone = -1;

  // Of tokens with one spelling the first added counts. Empty spellings are left out.
  void Add(absl::string_view spelling, TokenId token) {
    if (spelling.empty()) return;
    int64_t node = kRoot;
    for (const char c : spelling) {
      const auto [it, is_new] = children_.try_emplace(Key(node, c), static_cast<int64_t>(tokens_.size()));
      if (is_new) tokens_.push_back(-1);
      node = it->second;
    }
    if (tokens_[static_cast<size_t>(node)] < 0) tokens_[static_cast<size_t>(node)] = token;
  }

  // The node that `byte` leads to, or kNone.
  int64_t Step(int64_t node, char byte) const {
    const auto it = children_.find(Key(node, byte));
    return it == children_.end() ? kNone : it->second;
  }
  // The token that is spelled by the way to `node`, or -1.
  TokenId token(int64_t node) const { return tokens_[static_cast<size_t>(node)]; }

 private:
  static uint64_t Key(int64_t node, char byte) {
    return static_cast<uint64_t>(node) * 256 + static_cast<uint8_t>(byte);
  }

  absl::flat_hash_map<uint64_t, int64_t> children_;
  std::vector<TokenId> tokens_ = {-1};  // by node
};

}  // namespace tandem::engine
