// Byte-level byte-pair encoding: tokenizer.ggml.model "gpt2".
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// Each word of the pre-tokeniser starts as its bytes; the two neighbours whose pair comes first in the list of merges
// join, the leftmost of equals, until no pair is in the list. Vocabulary and merges spell bytes as printable
// characters. A byte without a token becomes the unknown token, or vanishes where the model has none.
class BpeTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);

  std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const override;
  std::string Piece(TokenId id, bool render_special) const override;
  bool strips_leading_space() const override { return false; }
  absl::string_view Spelling(TokenId id) const override;

 private:
  // What merging works on: a token id, or vocab_size + index in virtual_ for a string that only the merges know.
  using Symbol = uint32_t;
  struct Merge {
    uint32_t rank;
    Symbol result;
  };
  struct Scratch;  // buffers of one Encode

  BpeTokenizer(Vocabulary vocabulary, std::unique_ptr<Pretokenizer> pretokenizer);
  absl::Status LoadMerges(std::span<const absl::string_view> lines);
  Symbol Intern(const std::string& spelling);
  const Merge* FindMerge(Symbol left, Symbol right) const;
  void EncodeWord(absl::string_view word, Scratch* scratch, std::vector<TokenId>* out) const;
  void Emit(Symbol symbol, std::vector<TokenId>* out) const;

  const Vocabulary vocabulary_;
  const SpecialTokens special_;
  const std::unique_ptr<Pretokenizer> pretokenizer_;
  absl::flat_hash_map<std::string, Symbol> by_spelling_;  // tokens that text can become, and virtual symbols
  std::vector<std::string> virtual_;                      // spellings
  std::array<Symbol, 256> byte_symbol_ = {};
  absl::flat_hash_map<std::pair<Symbol, Symbol>, Merge> merges_;
  size_t longest_spelling_ = 0;  // bytes, of a token
};

}  // namespace tandem::engine
