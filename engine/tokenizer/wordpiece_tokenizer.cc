#include "engine/tokenizer/wordpiece_tokenizer.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/escaped_space.h"
#include "engine/tokenizer/word_cache.h"
#include "engine/tokenizer/word_normalizer.h"

namespace tandem::engine {
namespace {

// BERT's ids, for files that do not name theirs.
constexpr TokenId kUnknownOfBert = 100, kStartOfBert = 101, kSeparatorOfBert = 102;

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), special_(vocabulary_) {
  vocab_size_ = vocabulary_.size();
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  end_of_generation_ = vocabulary_.end_of_generation;
  for (TokenId id = 0; id < vocab_size_; ++id) {
    if (vocabulary_.IsText(id)) spellings_.Add(vocabulary_.spellings[id], id);
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> WordPieceTokenizer::Create(const GgufFile& file) {
  TANDEM_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Load(file, /*default_add_bos=*/true));
  const int32_t size = vocabulary.size();
  const auto or_default = [size](TokenId id, TokenId fallback) { return id < 0 && fallback < size ? fallback : id; };
  if (vocabulary.bos < 0) {
    TANDEM_ASSIGN_OR_RETURN(vocabulary.bos, OptionalId(file, "tokenizer.ggml.cls_token_id", size));
  }
  vocabulary.bos = or_default(vocabulary.bos, kStartOfBert);
  vocabulary.unknown = or_default(vocabulary.unknown, kUnknownOfBert);
  // The format spells this key so.
  TANDEM_ASSIGN_OR_RETURN(const TokenId separator, OptionalId(file, "tokenizer.ggml.seperator_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(const bool add_separator, OptionalBool(file, "tokenizer.ggml.add_sep_token", true));
  TANDEM_ASSIGN_OR_RETURN(const bool lower_case, OptionalBool(file, "tokenizer.ggml.normalizer.lowercase", true));
  TANDEM_ASSIGN_OR_RETURN(const bool strip_accents,
                          OptionalBool(file, "tokenizer.ggml.normalizer.strip_accents", lower_case));
  std::unique_ptr<WordPieceTokenizer> result(new WordPieceTokenizer(std::move(vocabulary)));
  result->separator_ = or_default(separator, kSeparatorOfBert);
  result->add_separator_ = add_separator;
  result->lower_case_ = lower_case;
  result->strip_accents_ = strip_accents;
  return result;
}

std::vector<TokenId> WordPieceTokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocabulary_.add_bos && bos_ >= 0) ids.push_back(bos_);
  for (const SpecialTokens::Fragment& fragment : special_.Partition(text, options.parse_special)) {
    if (fragment.token >= 0) {
      ids.push_back(fragment.token);
      continue;
    }
    const NormalizedWords words = NormalizeWords(fragment.text, lower_case_, strip_accents_);
    WordCache cache(words.text.size());
    size_t begin = 0;
    for (const size_t end : words.ends) {
      cache.Append(absl::string_view(words.text).substr(begin, end - begin), &ids,
                   [&](absl::string_view word) { EncodeWord(word, &ids); });
      begin = end;
    }
  }
  if (options.add_special && add_separator_ && separator_ >= 0) ids.push_back(separator_);
  return ids;
}

void WordPieceTokenizer::EncodeWord(absl::string_view word, std::vector<TokenId>* out) const {
  const size_t before = out->size();
  int64_t start = ByteTrie::kRoot;  // from where the next piece's spelling goes on
  for (const char c : kEscapedSpace) start = start == ByteTrie::kNone ? start : spellings_.Step(start, c);
  while (!word.empty()) {
    TokenId longest = -1;
    size_t bytes = 0;
    int64_t node = start;
    for (size_t i = 0; i < word.size() && node != ByteTrie::kNone; ++i) {
      node = spellings_.Step(node, word[i]);
      if (node != ByteTrie::kNone && spellings_.token(node) >= 0) {
        longest = spellings_.token(node);
        bytes = i + 1;
      }
    }
    if (longest < 0) {
      out->resize(before);
      if (vocabulary_.unknown >= 0) out->push_back(vocabulary_.unknown);
      return;
    }
    out->push_back(longest);
    word.remove_prefix(bytes);
    start = ByteTrie::kRoot;
  }
}

std::string WordPieceTokenizer::Piece(TokenId id, bool render_special) const {
  std::string piece = UnescapedPiece(vocabulary_, id, render_special);
  const bool closes = piece == " ." || piece == " ," || piece == " ?" || piece == " !";
  return closes ? piece.substr(1) : piece;
}

absl::string_view WordPieceTokenizer::Spelling(TokenId id) const {
  return id < 0 || id >= vocab_size_ ? absl::string_view() : absl::string_view(vocabulary_.spellings[id]);
}

}  // namespace tandem::engine
