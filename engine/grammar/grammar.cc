#include "engine/grammar/grammar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/grammar/gbnf_parser.h"
#include "engine/grammar/json_schema.h"

namespace tandem::engine::grammar {
namespace {

// Steps for one mask: about a tenth of a second at most. A walk over the whole trie of 128k tokens takes 0.4 million.
constexpr int64_t kMaxWork = 20'000'000;
// Masks that are kept; all are dropped when they pass it, and found anew.
constexpr size_t kMaxMaskBytes = size_t{32} << 20;

void Set(int32_t token, TokenMask* mask) { (*mask)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64); }
void Clear(int32_t token, TokenMask* mask) {
  (*mask)[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (token % 64));
}

}  // namespace

absl::StatusOr<std::shared_ptr<Grammar>> Grammar::FromRules(const RuleSet& rules,
                                                            std::shared_ptr<const TokenTrie> trie) {
  TANDEM_ASSIGN_OR_RETURN(Program program, Compile(rules));
  return std::shared_ptr<Grammar>(new Grammar(std::move(program), std::move(trie)));
}

absl::StatusOr<std::shared_ptr<Grammar>> Grammar::FromGbnf(absl::string_view text,
                                                           std::shared_ptr<const TokenTrie> trie) {
  TANDEM_ASSIGN_OR_RETURN(const RuleSet rules, ParseGbnf(text));
  return FromRules(rules, std::move(trie));
}

absl::StatusOr<std::shared_ptr<Grammar>> Grammar::FromJsonSchema(absl::string_view text,
                                                                 std::shared_ptr<const TokenTrie> trie) {
  TANDEM_ASSIGN_OR_RETURN(const RuleSet rules, RulesOfJsonSchema(text));
  return FromRules(rules, std::move(trie));
}

size_t Grammar::bytes() const {
  MutexLock lock(&mu_);
  return automaton_.bytes() + mask_bytes_;
}

bool Grammar::usable() const {
  MutexLock lock(&mu_);
  return automaton_.status().ok();
}

void Grammar::Walk(int32_t node, int32_t config, TokenMask* mask, std::vector<int32_t>* returns) {
  const TokenTrie& trie = *trie_;
  const int32_t end = trie.node(node).subtree_end;
  path_.resize(static_cast<size_t>(trie.max_depth()) + 1);
  path_[trie.node(node).depth] = config;
  int64_t visited = 0;
  for (int32_t i = node + 1; i < end;) {
    const TokenTrie::Node& at = trie.node(i);
    ++visited;
    const int32_t next = automaton_.Next(path_[at.depth - 1], at.byte);
    if (next == Automaton::kDead) {
      i = at.subtree_end;
      continue;
    }
    path_[at.depth] = next;
    for (const int32_t token : trie.TokensOf(i)) Set(token, mask);
    if (returns != nullptr && at.subtree_end > i + 1 && automaton_.ReachesBottom(next)) returns->push_back(i);
    ++i;
  }
  automaton_.Spend(visited);
}

const Grammar::SetMask& Grammar::MaskOfSet(int32_t set) {
  const auto found = set_masks_.find(set);
  if (found != set_masks_.end()) return found->second;
  SetMask result;
  result.mask.assign((static_cast<size_t>(trie_->vocab_size()) + 63) / 64, 0);
  Walk(0, automaton_.ConfigOfSet(set), &result.mask, &result.returns);
  mask_bytes_ += result.mask.size() * sizeof(uint64_t) + result.returns.size() * sizeof(int32_t);
  return set_masks_.emplace(set, std::move(result)).first->second;
}

absl::StatusOr<std::shared_ptr<const TokenMask>> Grammar::MaskOf(int32_t config) {
  const auto found = masks_.find(config);
  if (found != masks_.end()) return found->second;
  if (mask_bytes_ > kMaxMaskBytes) {
    masks_.clear();
    set_masks_.clear();
    mask_bytes_ = 0;
  }
  auto mask = std::make_shared<TokenMask>((static_cast<size_t>(trie_->vocab_size()) + 63) / 64, 0);
  const std::vector<int32_t> nodes = automaton_.Nodes(config);  // a copy: the table grows
  for (const int32_t node : nodes) {
    const SetMask& of_set = MaskOfSet(automaton_.SetOf(node));
    for (size_t word = 0; word < mask->size(); ++word) (*mask)[word] |= of_set.mask[word];
    const int32_t below = automaton_.Below(node);
    if (below == Automaton::kEmpty || of_set.returns.empty()) continue;
    const int32_t after = automaton_.ConfigAfterReturnTo(below);
    if (after == Automaton::kDead) continue;
    for (const int32_t at : of_set.returns) Walk(at, after, mask.get(), nullptr);
  }
  if (!automaton_.status().ok()) return automaton_.status();
  mask_bytes_ += mask->size() * sizeof(uint64_t);
  masks_.emplace(config, mask);
  return mask;
}

absl::StatusOr<Matcher> Matcher::Create(std::shared_ptr<Grammar> grammar, bool strips_space) {
  Matcher matcher;
  {
    Grammar& shared = *grammar;
    MutexLock lock(&shared.mu_);
    shared.automaton_.AllowWork(kMaxWork);
    matcher.config_ = shared.automaton_.Start();
    TANDEM_RETURN_IF_ERROR(shared.automaton_.status());
  }
  if (matcher.config_ == Automaton::kDead) return absl::InvalidArgumentError("nothing matches the grammar");
  matcher.grammar_ = std::move(grammar);
  matcher.strips_space_ = strips_space;
  TANDEM_RETURN_IF_ERROR(matcher.FindMask());
  if (!matcher.any_allowed_) {
    return absl::InvalidArgumentError("the grammar allows no token of the model's vocabulary at the start of the text");
  }
  return matcher;
}

absl::Status Matcher::FindMask() {
  Grammar& grammar = *grammar_;
  MutexLock lock(&grammar.mu_);
  grammar.automaton_.AllowWork(kMaxWork);
  TANDEM_ASSIGN_OR_RETURN(mask_, grammar.MaskOf(config_));
  const TokenTrie& trie = *grammar.trie_;
  if (strips_space_) {
    // The space that goes away matches nothing; what follows it in the token does. A token that is but the space would
    // say nothing.
    int32_t child = 1;
    while (child < trie.size() && trie.node(child).byte != ' ') child = trie.node(child).subtree_end;
    if (child < trie.size()) {
      TokenMask stripped = *mask_;
      for (const int32_t token : trie.TokensOfSubtree(child)) Clear(token, &stripped);
      grammar.Walk(child, config_, &stripped, nullptr);
      TANDEM_RETURN_IF_ERROR(grammar.automaton_.status());
      mask_ = std::make_shared<const TokenMask>(std::move(stripped));
    }
  }
  any_allowed_ = std::any_of(mask_->begin(), mask_->end(), [](uint64_t word) { return word != 0; });
  may_end_ = grammar.automaton_.ReachesBottom(config_);
  return absl::OkStatus();
}

bool Matcher::Allows(int32_t token) const {
  const size_t word = static_cast<size_t>(token) / 64;
  return token >= 0 && word < mask_->size() && ((*mask_)[word] >> (token % 64) & 1) != 0;
}

absl::Status Matcher::Accept(int32_t token) {
  if (!Allows(token)) return absl::InvalidArgumentError(absl::StrCat("token ", token, " is not allowed here"));
  {
    Grammar& shared = *grammar_;
    MutexLock lock(&shared.mu_);
    shared.automaton_.AllowWork(kMaxWork);
    absl::string_view text = shared.trie_->text(token);
    if (strips_space_ && text[0] == ' ') text.remove_prefix(1);
    int32_t config = config_;
    for (const char c : text) {
      config = shared.automaton_.Next(config, static_cast<uint8_t>(c));
      TANDEM_RETURN_IF_ERROR(shared.automaton_.status());
      if (config == Automaton::kDead) return absl::InternalError(absl::StrCat("token ", token, " was allowed"));
    }
    config_ = config;
    strips_space_ = false;
  }
  return FindMask();
}

}  // namespace tandem::engine::grammar
