// The texts of a vocabulary as a tree of bytes, laid out for a walk in order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine::grammar {

// Immutable, hence thread-safe. About 60 bytes a token.
class TokenTrie {
 public:
  // `texts` by token id; an empty one is no text (a control token) and part of no subtree.
  explicit TokenTrie(std::vector<std::string> texts);
  static std::shared_ptr<const TokenTrie> Create(const Tokenizer& tokenizer);

  // Nodes are numbered so that a subtree is the range [node, subtree_end(node)). Node 0 is the root, of no byte.
  int32_t size() const { return static_cast<int32_t>(nodes_.size()); }
  struct Node {
    int32_t subtree_end;
    int32_t tokens_begin;  // tokens of this node: tokens_in_order()[tokens_begin, that of the next node)
    uint16_t depth;        // of the root 0
    uint8_t byte;
  };
  const Node& node(int32_t i) const { return nodes_[i]; }
  std::span<const int32_t> TokensOf(int32_t node) const { return TokensBetween(node, node + 1); }
  std::span<const int32_t> TokensOfSubtree(int32_t node) const { return TokensBetween(node, nodes_[node].subtree_end); }
  int max_depth() const { return max_depth_; }

  int32_t vocab_size() const { return static_cast<int32_t>(texts_.size()); }
  const std::string& text(int32_t token) const { return texts_[token]; }

 private:
  std::span<const int32_t> TokensBetween(int32_t begin, int32_t end) const {
    const int32_t last = end < size() ? nodes_[end].tokens_begin : static_cast<int32_t>(order_.size());
    return {order_.data() + nodes_[begin].tokens_begin, static_cast<size_t>(last - nodes_[begin].tokens_begin)};
  }

  std::vector<std::string> texts_;
  std::vector<int32_t> order_;  // tokens by text
  std::vector<Node> nodes_;
  int max_depth_ = 0;
};

// A longer token is never allowed by a grammar.
inline constexpr size_t kMaxTokenBytes = 4096;

}  // namespace tandem::engine::grammar
