// SentencePiece-style tokenizer: tokenizer.ggml.model "llama".
#pragma once

#include <bitset>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// Spaces become U+2581, then the two neighbours whose joint spelling has the highest score merge, the leftmost of
// equals, until none fits. What is left and no token becomes its byte tokens, or the unknown token where there is none.
// The text is cut beforehand between characters that stand side by side in no token: no merge crosses such a place, so
// the pieces, about words, merge on their own. O(n log n) in the longest of them.
class SpmTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);

  std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const override;
  std::string Piece(TokenId id, bool render_special) const override;
  bool strips_leading_space() const override { return add_space_prefix_; }
  absl::string_view Spelling(TokenId id) const override;

 private:
  struct Scratch;  // buffers of one Encode

  explicit SpmTokenizer(Vocabulary vocabulary);
  // Makes the spelling of `id` one that text can become.
  void AddSpelling(TokenId id);
  // Length in bytes of the first piece of `text`, which must not be empty.
  size_t FirstPiece(absl::string_view text) const;
  // `piece` without special tokens, spaces escaped.
  void EncodePiece(absl::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const;
  void EncodeBytes(absl::string_view bytes, std::vector<TokenId>* out) const;

  const Vocabulary vocabulary_;
  const SpecialTokens special_;
  std::vector<float> scores_;        // by token id
  std::vector<TokenId> byte_token_;  // [256], -1 where the vocabulary has none
  // Spellings of the tokens that text can become. Views into vocabulary_.
  absl::flat_hash_map<absl::string_view, TokenId> by_spelling_;
  size_t longest_spelling_ = 0;  // bytes
  // [left * kEdges + right]: some token holds two characters side by side whose edges are these (spm_tokenizer.cc).
  static constexpr size_t kEdges = 257;
  std::bitset<kEdges * kEdges> joined_;
  bool add_space_prefix_ = true;
};

}  // namespace tandem::engine
