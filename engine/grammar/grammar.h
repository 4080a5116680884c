// Constrained output: which tokens may come next so that the text stays one that a grammar can complete.
//
// A grammar is compiled once and shared by all requests with its text. What may follow a place in it is found by a walk
// over the vocabulary's trie, once for each place, the calling rules left open; only tokens that run beyond the end of
// a rule are then tried against the rules that were calling. This division, and the trie, follow what was published
// for XGrammar (Dong et al., 2024, arXiv:2411.15100) and llguidance.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/grammar/automaton.h"
#include "engine/grammar/expression.h"
#include "engine/grammar/token_trie.h"

namespace tandem::engine::grammar {

// One bit a token, as DrawState::allowed has it: bit t % 64 of word t / 64.
using TokenMask = std::vector<uint64_t>;

// A compiled grammar with what was found out about it so far. Thread-safe; one lock, held for one mask or token.
class Grammar {
 public:
  // GBNF (gbnf_parser.h). Errors: kInvalidArgument with line and column, or naming the rule.
  static absl::StatusOr<std::shared_ptr<Grammar>> FromGbnf(absl::string_view text,
                                                           std::shared_ptr<const TokenTrie> trie);
  // A JSON schema (json_schema.h). Errors: kInvalidArgument with the JSON pointer.
  static absl::StatusOr<std::shared_ptr<Grammar>> FromJsonSchema(absl::string_view text,
                                                                 std::shared_ptr<const TokenTrie> trie);

  // Of tables and cached masks.
  size_t bytes() const;
  // False once a text has run into the limits of the automaton; then every text does.
  bool usable() const;
  const TokenTrie& trie() const { return *trie_; }

 private:
  friend class Matcher;

  // The tokens that may follow a set, its caller left open.
  struct SetMask {
    TokenMask mask;
    std::vector<int32_t> returns;  // trie nodes at which the rule is matched and tokens go on
  };

  Grammar(Program program, std::shared_ptr<const TokenTrie> trie)
      : trie_(std::move(trie)), automaton_(std::move(program)) {}
  static absl::StatusOr<std::shared_ptr<Grammar>> FromRules(const RuleSet& rules,
                                                            std::shared_ptr<const TokenTrie> trie);

  // The tokens whose texts can follow in `config`. Fails with the automaton.
  absl::StatusOr<std::shared_ptr<const TokenMask>> MaskOf(int32_t config) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  const SetMask& MaskOfSet(int32_t set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Adds the tokens below trie node `node` whose rest can follow in `config`, and to `returns` (may be null) the nodes
  // at which the bottom is reached.
  void Walk(int32_t node, int32_t config, TokenMask* mask, std::vector<int32_t>* returns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<const TokenTrie> trie_;
  mutable Mutex mu_;
  Automaton automaton_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<int32_t, std::shared_ptr<const TokenMask>> masks_ ABSL_GUARDED_BY(mu_);  // by config
  absl::flat_hash_map<int32_t, SetMask> set_masks_ ABSL_GUARDED_BY(mu_);
  size_t mask_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<int32_t> path_ ABSL_GUARDED_BY(mu_);  // of Walk: the config at each depth
};

// Where one text is in a grammar: a function of the tokens accepted. Thread-compatible.
class Matcher {
 public:
  // `strips_space`: one space at the start of the text will be removed (Tokenizer::strips_leading_space at the start
  // of a text), so it is not matched. Errors: kInvalidArgument (no text of this vocabulary matches), kResourceExhausted
  // (as Mask).
  static absl::StatusOr<Matcher> Create(std::shared_ptr<Grammar> grammar, bool strips_space);

  // The tokens with a text that may come next; none: only the end may. Holds until the next Accept. Control tokens are
  // never among them.
  const TokenMask& mask() const { return *mask_; }
  bool any_allowed() const { return any_allowed_; }
  bool Allows(int32_t token) const;
  // The text so far is complete.
  bool may_end() const { return may_end_; }
  // Adds `token` to the text and finds the next mask. Errors: kInvalidArgument (it is not allowed; nothing changes),
  // kResourceExhausted (the grammar is too ambiguous at this place, or its tables are full: the text cannot go on).
  absl::Status Accept(int32_t token);

 private:
  Matcher() = default;
  absl::Status FindMask();

  std::shared_ptr<Grammar> grammar_;
  int32_t config_ = 0;
  bool strips_space_ = false;  // still to come
  std::shared_ptr<const TokenMask> mask_;
  bool any_allowed_ = false, may_end_ = false;
};

}  // namespace tandem::engine::grammar
