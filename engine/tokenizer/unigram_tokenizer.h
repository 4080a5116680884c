// SentencePiece's unigram language model, the tokenizer of T5 and its kin: tokenizer.ggml.model "t5". Published
// definition: Kudo 2018, "Subword Regularization"; normalisation as in SentencePiece.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/charsmap.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// Of all ways to write the normalised text as tokens, the one with the greatest sum of scores (log-probabilities,
// summed in double from the left; user-defined tokens count 0; of equal sums the one whose last token starts first). A
// character that no token spells costs 10 more than the worst token; a run of such characters is one unknown token.
// Linear in the text times, at worst, the longest spelling. Lossy where the normalisation is.
class UnigramTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);

  std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const override;
  std::string Piece(TokenId id, bool render_special) const override;
  bool strips_leading_space() const override { return add_space_prefix_; }
  absl::string_view Spelling(TokenId id) const override;

 private:
  explicit UnigramTokenizer(Vocabulary vocabulary);
  absl::Status LoadScores(const GgufFile& file);
  // Characters replaced by the charsmap, invalid bytes by U+FFFD, spaces merged, escaped and put in front.
  std::string Normalize(absl::string_view text) const;
  // `text` normalised, well-formed UTF-8.
  void EncodePlain(absl::string_view text, std::vector<TokenId>* out) const;

  const Vocabulary vocabulary_;
  const SpecialTokens special_;
  ByteTrie spellings_;
  std::vector<double> scores_;  // by token id
  double unknown_score_ = 0;
  Charsmap charsmap_;
  bool add_space_prefix_ = false;
  bool merge_spaces_ = false;
};

}  // namespace tandem::engine
