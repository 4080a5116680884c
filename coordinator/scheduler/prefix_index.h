// Which beginnings of texts lie computed in KV pages: a radix tree whose every edge is a page of tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/scheduler/page_pool.h"

namespace tandem::coordinator {

// A node is a full page: with its ancestors it names the tokens from position 0 to the page's end, whose keys and
// values it and they hold. The bits of a key depend on the tokens before it only (canonical arithmetic), so whoever's
// text begins with those tokens may read the pages. Texts that go through different adapters have different keys: each
// `domain` has a tree of its own.
//
// Role: finds, adds, and gives up the pages used least recently. Ownership: borrows the pool, in which it keeps the
// pages of its nodes; owned by the scheduler, not thread-safe. A node lives while a sequence uses its page; one that is
// idle may go at EvictOne. Costs: a page of tokens compared or hashed for each page of the text, O(log leaves) for
// changes.
class PrefixIndex {
 public:
  class Node;

  PrefixIndex(int32_t page_tokens, PagePool* pool) : page_tokens_(page_tokens), pool_(pool) {}

  // The longest known beginning of a text.
  struct Match {
    std::vector<Node*> nodes;  // full pages, from the one after `from` on
    // How many of the text's next tokens, but not all of the page, are the first ones of `shared_page`.
    int32_t shared_tokens = 0;
    uint32_t shared_page = 0;
  };

  // What of `tokens`, a text of `domain` from `from`'s end on (null: its beginning), is known. A match of all of them
  // is cut: the rest is never empty.
  Match Find(const std::string& domain, Node* from, std::span<const int32_t> tokens) const;
  // The page that follows on `parent` (null: begins texts of `domain`) and holds `tokens`, a full page of them: `page`,
  // which has a user, or the node that was there before, with another page of the same contents.
  Node* Add(const std::string& domain, Node* parent, std::span<const int32_t> tokens, uint32_t page);
  // The page was used just now. Its ancestors are younger than it or as old.
  void Touch(Node* node);
  // Gives up the idle page that was used least recently and has no page after it in the tree. False if none is idle.
  bool EvictOne();
  int64_t evictions() const { return evictions_; }

 private:
  struct Older {
    bool operator()(const Node* a, const Node* b) const;
  };

  int32_t page_tokens_;
  PagePool* pool_;
  std::map<std::string, Node> roots_;  // of pages before the first one; only those with children
  std::set<Node*, Older> leaves_;
  uint64_t clock_ = 0;  // counts uses
  int64_t evictions_ = 0;
};

class PrefixIndex::Node {
 public:
  uint32_t page() const { return page_; }

 private:
  friend class PrefixIndex;
  Node* parent_ = nullptr;  // null: a root
  uint32_t page_ = 0;
  uint64_t last_used_ = 0;
  std::vector<int32_t> tokens_;
  // By the tokens of the child's page, which the child owns.
  struct Less {
    using is_transparent = void;
    static std::span<const int32_t> Key(const std::unique_ptr<Node>& node) { return node->tokens_; }
    static std::span<const int32_t> Key(std::span<const int32_t> tokens) { return tokens; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      const std::span<const int32_t> x = Key(a), y = Key(b);
      return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end());
    }
  };
  std::set<std::unique_ptr<Node>, Less> children_;
};

}  // namespace tandem::coordinator
