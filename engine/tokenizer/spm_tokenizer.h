// SentencePiece-style tokenizer: tokenizer.ggml.model "llama".
#pragma once

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
class SpmTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);

  std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const override;
  std::string Piece(TokenId id, bool render_special) const override;
  bool strips_leading_space() const override { return add_space_prefix_; }
  absl::string_view Spelling(TokenId id) const override;

 private:
  explicit SpmTokenizer(Vocabulary vocabulary);
  // `text` without special tokens, spaces escaped.
  void EncodePlain(absl::string_view text, std::vector<TokenId>* out) const;
  void EncodeBytes(absl::string_view bytes, std::vector<TokenId>* out) const;

  const Vocabulary vocabulary_;
  const SpecialTokens special_;
  std::vector<float> scores_;        // by token id
  std::vector<TokenId> byte_token_;  // [256], -1 where the vocabulary has none
  // Spellings of the tokens that text can become. Views into vocabulary_.
  absl::flat_hash_map<absl::string_view, TokenId> by_spelling_;
  size_t longest_spelling_ = 0;  // bytes
  bool add_space_prefix_ = true;
};

}  // namespace tandem::engine
