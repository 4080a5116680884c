// Grammars that requests name, compiled once for a model's vocabulary.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/grammar/grammar.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::coordinator {

enum class GrammarNotation { kGbnf, kJsonSchema };

// The latest kMaxGrammars texts, as long as they take no more than kMaxBytes together. A grammar whose tables have
// grown large, or that has failed, is compiled anew for the next request; those under way keep theirs. Thread-safe;
// compiles under its lock.
class GrammarCache {
 public:
  static constexpr size_t kMaxGrammars = 32;
  static constexpr size_t kMaxGrammarBytes = size_t{48} << 20;  // of one that is used again
  static constexpr size_t kMaxBytes = size_t{256} << 20;

  // `tokenizer` must outlive this.
  explicit GrammarCache(const engine::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Errors: kInvalidArgument, what is wrong with the text after "grammar: " or "json_schema: ".
  absl::StatusOr<std::shared_ptr<engine::grammar::Grammar>> Get(GrammarNotation notation, const std::string& text);

 private:
  struct Entry {
    GrammarNotation notation;
    std::string text;
    std::shared_ptr<engine::grammar::Grammar> grammar;
  };

  const engine::Tokenizer& tokenizer_;
  Mutex mu_;
  std::shared_ptr<const engine::grammar::TokenTrie> trie_ ABSL_GUARDED_BY(mu_);  // made for the first request
  std::list<Entry> entries_ ABSL_GUARDED_BY(mu_);                                // the latest used first
};

}  // namespace tandem::coordinator
