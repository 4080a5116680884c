#include "engine/tokenizer/spm_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/escaped_space.h"
#include "engine/tokenizer/utf8.h"
#include "engine/tokenizer/word_cache.h"

namespace tandem::engine {
namespace {

// A stretch of the text that merged so far, in a list linked by index. `bytes` is 0 once its left neighbour took it.
struct Symbol {
  size_t begin;
  size_t bytes;
  int32_t previous, next;  // -1 at the ends
};

// Two neighbours that spell a token. Stale once either has changed, which shows in their joint length.
struct Candidate {
  float score;
  int32_t left, right;
  size_t bytes;
  bool operator<(const Candidate& other) const {  // the queue gives its greatest element first
    return score < other.score || (score == other.score && left > other.left);
  }
};

// What shows of a character where it meets a neighbour: its first or its last byte, and the escaped space, which shares
// its bytes with much punctuation, as itself.
struct Edges {
  size_t bytes;  // of the character
  size_t first, last;
};

Edges NextEdges(absl::string_view text) {
  const uint8_t first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {1, first, first};
  const size_t bytes = NextUtf8(text).bytes;
  if (text.substr(0, bytes) == kEscapedSpace) return {bytes, 256, 256};
  return {bytes, first, static_cast<uint8_t>(text[bytes - 1])};
}

}  // namespace

struct SpmTokenizer::Scratch {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

SpmTokenizer::SpmTokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), special_(vocabulary_), byte_token_(256, -1) {
  vocab_size_ = vocabulary_.size();
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  end_of_generation_ = vocabulary_.end_of_generation;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> SpmTokenizer::Create(const GgufFile& file) {
  TANDEM_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Load(file, /*default_add_bos=*/true));
  std::unique_ptr<SpmTokenizer> result(new SpmTokenizer(std::move(vocabulary)));
  const Vocabulary& vocab = result->vocabulary_;

  TANDEM_ASSIGN_OR_RETURN(result->scores_, vocab.LoadScores(file));
  TANDEM_ASSIGN_OR_RETURN(result->add_space_prefix_, OptionalBool(file, "tokenizer.ggml.add_space_prefix", true));

  for (TokenId id = 0; id < vocab.size(); ++id) {
    const std::string& spelling = vocab.spellings[id];
    if (vocab.types[id] == TokenType::kByte) {
      TANDEM_ASSIGN_OR_RETURN(const uint8_t byte, ParseByteToken(spelling, id));
      if (result->byte_token_[byte] < 0) result->byte_token_[byte] = id;
    } else if (!spelling.empty() && (vocab.IsText(id) || vocab.types[id] == TokenType::kUserDefined)) {
      result->AddSpelling(id);
    }
  }
  return result;
}

void SpmTokenizer::AddSpelling(TokenId id) {
  absl::string_view spelling = vocabulary_.spellings[id];
  by_spelling_.try_emplace(spelling, id);
  longest_spelling_ = std::max(longest_spelling_, spelling.size());
  Edges left = NextEdges(spelling);
  spelling.remove_prefix(left.bytes);
  while (!spelling.empty()) {
    const Edges right = NextEdges(spelling);
    joined_.set(left.last * kEdges + right.first);
    spelling.remove_prefix(right.bytes);
    left = right;
  }
}

std::vector<TokenId> SpmTokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocabulary_.add_bos && bos_ >= 0) ids.push_back(bos_);
  const std::vector<SpecialTokens::Fragment> fragments = special_.Partition(text, options.parse_special);
  // The escaped text of all fragments, in one place that does not move: the cache keeps views of it.
  std::string escaped;
  const size_t spaces = static_cast<size_t>(std::count(text.begin(), text.end(), ' ')) + fragments.size();
  escaped.reserve(text.size() + spaces * kEscapedSpace.size());
  WordCache cache(text.size());
  Scratch scratch;
  bool after_special = true;
  for (const SpecialTokens::Fragment& fragment : fragments) {
    if (fragment.token >= 0) {
      ids.push_back(fragment.token);
      after_special = true;
      continue;
    }
    const size_t begin = escaped.size();
    // Models of this kind saw a space before the text and before what follows a special token.
    if (add_space_prefix_ && after_special) absl::StrAppend(&escaped, kEscapedSpace);
    AppendEscaped(fragment.text, &escaped);
    absl::string_view rest = absl::string_view(escaped).substr(begin);
    while (!rest.empty()) {
      const size_t bytes = FirstPiece(rest);
      cache.Append(rest.substr(0, bytes), &ids, [&](absl::string_view piece) { EncodePiece(piece, &scratch, &ids); });
      rest.remove_prefix(bytes);
    }
    after_special = false;
  }
  if (options.add_special && vocabulary_.add_eos && eos_ >= 0) ids.push_back(eos_);
  return ids;
}

size_t SpmTokenizer::FirstPiece(absl::string_view text) const {
  Edges left = NextEdges(text);
  size_t bytes = left.bytes;
  while (bytes < text.size()) {
    const Edges right = NextEdges(text.substr(bytes));
    if (!joined_[left.last * kEdges + right.first]) break;
    bytes += right.bytes;
    left = right;
  }
  return bytes;
}

void SpmTokenizer::EncodePiece(absl::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const {
  std::vector<Symbol>& symbols = scratch->symbols;
  std::vector<Candidate>& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return false;
    const size_t bytes = symbols[left].bytes + symbols[right].bytes;
    if (bytes > longest_spelling_) return false;
    const auto it = by_spelling_.find(piece.substr(symbols[left].begin, bytes));
    if (it == by_spelling_.end()) return false;
    heap.push_back({scores_[it->second], left, right, bytes});
    return true;
  };
  for (size_t pos = 0; pos < piece.size(); pos += symbols.back().bytes) {
    const int32_t index = static_cast<int32_t>(symbols.size());
    symbols.push_back({pos, NextUtf8(piece.substr(pos)).bytes, index - 1, index + 1});
    consider(index - 1, index);
  }
  symbols.back().next = -1;
  std::make_heap(heap.begin(), heap.end());

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes) continue;
    left.bytes += right.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    if (consider(left.previous, best.left)) std::push_heap(heap.begin(), heap.end());
    if (consider(best.left, left.next)) std::push_heap(heap.begin(), heap.end());
  }

  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    const absl::string_view spelling = piece.substr(symbols[i].begin, symbols[i].bytes);
    const auto it = by_spelling_.find(spelling);
    if (it != by_spelling_.end()) {
      out->push_back(it->second);
    } else {
      EncodeBytes(spelling, out);
    }
  }
}

void SpmTokenizer::EncodeBytes(absl::string_view bytes, std::vector<TokenId>* out) const {
  for (const char c : bytes) {
    const TokenId id = byte_token_[static_cast<uint8_t>(c)];
    if (id >= 0) {
      out->push_back(id);
    } else if (vocabulary_.unknown >= 0) {
      out->push_back(vocabulary_.unknown);
      return;  // one unknown token for the whole character
    }
  }
}

std::string SpmTokenizer::Piece(TokenId id, bool render_special) const {
  return UnescapedPiece(vocabulary_, id, render_special);
}

absl::string_view SpmTokenizer::Spelling(TokenId id) const {
  return id < 0 || id >= vocab_size_ ? absl::string_view() : absl::string_view(vocabulary_.spellings[id]);
}

}  // namespace tandem::engine
