#include "engine/tokenizer/tokenizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/bpe_tokenizer.h"
#include "engine/tokenizer/spm_tokenizer.h"
#include "engine/tokenizer/unigram_tokenizer.h"
#include "engine/tokenizer/vocabulary.h"
#include "engine/tokenizer/wordpiece_tokenizer.h"

namespace tandem::engine {

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const GgufFile& file) {
  const auto kind = file.GetString("tokenizer.ggml.model");
  if (!kind.ok()) return MissingIsInvalid(kind.status());
  if (*kind == "llama") return SpmTokenizer::Create(file);
  if (*kind == "gpt2") return BpeTokenizer::Create(file);
  if (*kind == "bert") return WordPieceTokenizer::Create(file);
  if (*kind == "t5") return UnigramTokenizer::Create(file);
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.model is \"", *kind, "\"; known are \"llama\", \"gpt2\", \"bert\" and \"t5\""));
}

std::string Tokenizer::Decode(const std::vector<TokenId>& ids, bool render_special) const {
  std::string text;
  bool strip_space = strips_leading_space();
  for (const TokenId id : ids) {
    const std::string piece = Piece(id, render_special);
    if (piece.empty()) continue;
    text.append(piece, strip_space && piece[0] == ' ' ? 1 : 0, std::string::npos);
    strip_space = false;
  }
  return text;
}

bool Tokenizer::IsEndOfGeneration(TokenId id) const {
  return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), id);
}

}  // namespace tandem::engine
