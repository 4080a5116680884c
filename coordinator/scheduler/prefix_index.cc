#include "coordinator/scheduler/prefix_index.h"

#include <algorithm>
#include <iterator>

namespace tandem::coordinator {
namespace {

int32_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int32_t>(ends.first - a.begin());
}

}  // namespace

bool PrefixIndex::Older::operator()(const Node* a, const Node* b) const {
  return a->last_used_ != b->last_used_ ? a->last_used_ < b->last_used_ : a->page_ < b->page_;
}

PrefixIndex::Match PrefixIndex::Find(const std::string& domain, Node* from, std::span<const int32_t> tokens) const {
  Match match;
  const Node* node = from;
  if (from == nullptr) {
    const auto root = roots_.find(domain);
    if (root == roots_.end()) return match;
    node = &root->second;
  }
  while (static_cast<int32_t>(tokens.size()) > page_tokens_) {
    const auto child = node->children_.find(tokens.first(page_tokens_));
    if (child == node->children_.end()) break;
    match.nodes.push_back(child->get());
    node = child->get();
    tokens = tokens.subspan(page_tokens_);
  }
  if (tokens.empty()) return match;
  // Children are in the order of their tokens, so the one that shares most is next to where `tokens` would stand.
  const std::span<const int32_t> rest = tokens.first(std::min<size_t>(tokens.size() - 1, page_tokens_));
  const auto after = node->children_.lower_bound(rest);
  const auto consider = [&](const Node* child) {
    const int32_t shared = CommonPrefix(child->tokens_, rest);
    if (shared > match.shared_tokens) match.shared_tokens = shared, match.shared_page = child->page_;
  };
  if (after != node->children_.end()) consider(after->get());
  if (after != node->children_.begin()) consider(std::prev(after)->get());
  return match;
}

PrefixIndex::Node* PrefixIndex::Add(const std::string& domain, Node* parent, std::span<const int32_t> tokens,
                                    uint32_t page) {
  if (parent == nullptr) parent = &roots_[domain];
  const auto found = parent->children_.find(tokens);
  if (found != parent->children_.end()) return found->get();
  auto node = std::make_unique<Node>();
  node->parent_ = parent;
  node->page_ = page;
  node->tokens_.assign(tokens.begin(), tokens.end());
  node->last_used_ = ++clock_;
  pool_->Keep(page);
  leaves_.erase(parent);
  Node* const added = node.get();
  parent->children_.insert(std::move(node));
  leaves_.insert(added);
  return added;
}

void PrefixIndex::Touch(Node* node) {
  ++clock_;
  for (; node->parent_ != nullptr; node = node->parent_) {
    const bool leaf = leaves_.erase(node) > 0;
    node->last_used_ = clock_;
    if (leaf) leaves_.insert(node);
  }
}

bool PrefixIndex::EvictOne() {
  // Of leaves in use there are no more than sequences.
  const auto oldest =
      std::find_if(leaves_.begin(), leaves_.end(), [this](const Node* leaf) { return pool_->users(leaf->page_) == 0; });
  if (oldest == leaves_.end()) return false;
  Node* const node = *oldest;
  leaves_.erase(oldest);
  pool_->Forget(node->page_);
  Node* const parent = node->parent_;
  parent->children_.erase(parent->children_.find(std::span<const int32_t>(node->tokens_)));
  if (parent->children_.empty()) {
    if (parent->parent_ != nullptr) {
      leaves_.insert(parent);
    } else {
      std::erase_if(roots_, [parent](const auto& root) { return &root.second == parent; });
    }
  }
  ++evictions_;
  return true;
}

}  // namespace tandem::coordinator
