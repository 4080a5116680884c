#include "coordinator/grammar_cache.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem::coordinator {

using engine::grammar::Grammar;

absl::StatusOr<std::shared_ptr<Grammar>> GrammarCache::Get(GrammarNotation notation, const std::string& text) {
  MutexLock lock(&mu_);
  if (trie_ == nullptr) trie_ = engine::grammar::TokenTrie::Create(tokenizer_);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.notation == notation && entry.text == text; });
  if (found != entries_.end() && found->grammar->bytes() <= kMaxGrammarBytes && found->grammar->usable()) {
    entries_.splice(entries_.begin(), entries_, found);
    return found->grammar;
  }
  if (found != entries_.end()) entries_.erase(found);
  const bool gbnf = notation == GrammarNotation::kGbnf;
  auto grammar = gbnf ? Grammar::FromGbnf(text, trie_) : Grammar::FromJsonSchema(text, trie_);
  if (!grammar.ok()) {
    return absl::Status(grammar.status().code(),
                        absl::StrCat(gbnf ? "grammar: " : "json_schema: ", grammar.status().message()));
  }
  entries_.push_front({notation, text, *grammar});
  size_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.grammar->bytes();
  while (entries_.size() > kMaxGrammars || (entries_.size() > 1 && bytes > kMaxBytes)) {
    bytes -= std::min(bytes, entries_.back().grammar->bytes());
    entries_.pop_back();
  }
  return *grammar;
}

}  // namespace tandem::coordinator
