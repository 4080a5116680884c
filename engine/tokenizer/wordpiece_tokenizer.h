// WordPiece, the tokenizer of BERT and its kin: tokenizer.ggml.model "bert". Published definition: Devlin et al. 2018
// and its BasicTokenizer; how model files spell the vocabulary: U+2581 in front of a piece that starts a word, nothing
// in front of one that goes on (where BERT's own files have nothing and "##").
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// Text is normalised (control characters out; where the file asks for it lower case, accents off) and cut into words at
// white space, around punctuation and around each ideograph. A word becomes the longest token that starts it, then the
// longest that goes on, and so forth; if that gets stuck, the whole word is one unknown token. Lossy.
class WordPieceTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);

  std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const override;
  // A word's space comes with its first piece, but not before ".", ",", "?" and "!".
  std::string Piece(TokenId id, bool render_special) const override;
  bool strips_leading_space() const override { return true; }
  absl::string_view Spelling(TokenId id) const override;

 private:
  explicit WordPieceTokenizer(Vocabulary vocabulary);
  // `word` normalised, without the escaped space that its first piece starts with.
  void EncodeWord(absl::string_view word, std::vector<TokenId>* out) const;

  const Vocabulary vocabulary_;
  const SpecialTokens special_;
  ByteTrie spellings_;
  TokenId separator_ = -1;  // closes a text
  bool add_separator_ = true;
  bool lower_case_ = true, strip_accents_ = true;
};

}  // namespace tandem::engine
