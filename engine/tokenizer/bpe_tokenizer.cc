#include "engine/tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/word_cache.h"

namespace tandem::engine {
namespace {

constexpr absl::string_view kMerges = "tokenizer.ggml.merges";
constexpr uint32_t kGone = std::numeric_limits<uint32_t>::max();  // a symbol that its left neighbour took

}  // namespace

// The word as a list linked by index, and the heap of pairs that may merge.
struct BpeTokenizer::Scratch {
  struct Node {
    Symbol symbol;
    int32_t previous, next;  // -1 at the ends
  };
  struct Candidate {
    uint32_t rank;
    int32_t left;
    Symbol left_symbol, right_symbol;  // stale once the nodes hold others
    Symbol result;
    bool operator<(const Candidate& other) const {  // heaps give their greatest element first
      return rank > other.rank || (rank == other.rank && left > other.left);
    }
  };
  std::vector<Node> nodes;
  std::vector<Candidate> heap;
};

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, std::unique_ptr<Pretokenizer> pretokenizer)
    : vocabulary_(std::move(vocabulary)), special_(vocabulary_), pretokenizer_(std::move(pretokenizer)) {
  vocab_size_ = vocabulary_.size();
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  end_of_generation_ = vocabulary_.end_of_generation;
  for (TokenId id = 0; id < vocab_size_; ++id) {
    const std::string& spelling = vocabulary_.spellings[id];
    if (!vocabulary_.IsText(id) || spelling.empty()) continue;
    by_spelling_.try_emplace(spelling, static_cast<Symbol>(id));
    longest_spelling_ = std::max(longest_spelling_, spelling.size());
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_symbol_[byte] = Intern(SpellBytes(absl::string_view(&c, 1)));
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> BpeTokenizer::Create(const GgufFile& file) {
  absl::string_view pre = "default";
  if (file.Has("tokenizer.ggml.pre")) {
    TANDEM_ASSIGN_OR_RETURN(pre, file.GetString("tokenizer.ggml.pre"));
  }
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Pretokenizer> pretokenizer, Pretokenizer::Create(pre));
  TANDEM_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Load(file, pretokenizer->default_add_bos()));
  const auto merges = file.GetStrings(kMerges);
  if (!merges.ok()) return MissingIsInvalid(merges.status());
  std::unique_ptr<BpeTokenizer> result(new BpeTokenizer(std::move(vocabulary), std::move(pretokenizer)));
  TANDEM_RETURN_IF_ERROR(result->LoadMerges(*merges));
  return result;
}

absl::Status BpeTokenizer::LoadMerges(std::span<const absl::string_view> lines) {
  if (lines.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat(kMerges, " has ", lines.size(), " entries; the limit is 2147483647"));
  }
  merges_.reserve(lines.size());
  for (size_t rank = 0; rank < lines.size(); ++rank) {
    const absl::string_view line = lines[rank];
    const size_t space = line.find(' ');
    if (space == absl::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat(kMerges, "[", rank, "] is \"", line,
                                                     "\"; a merge is two spellings with one space between them"));
    }
    const std::string left(line.substr(0, space)), right(line.substr(space + 1));
    const Symbol left_symbol = Intern(left), right_symbol = Intern(right);
    // A pair that is listed twice keeps its first rank.
    merges_.try_emplace({left_symbol, right_symbol},
                        Merge{static_cast<uint32_t>(rank), Intern(absl::StrCat(left, right))});
  }
  return absl::OkStatus();
}

BpeTokenizer::Symbol BpeTokenizer::Intern(const std::string& spelling) {
  const auto [it, is_new] = by_spelling_.try_emplace(spelling, static_cast<Symbol>(vocab_size_ + virtual_.size()));
  if (is_new) virtual_.push_back(spelling);
  return it->second;
}

const BpeTokenizer::Merge* BpeTokenizer::FindMerge(Symbol left, Symbol right) const {
  const auto it = merges_.find({left, right});
  return it == merges_.end() ? nullptr : &it->second;
}

std::vector<TokenId> BpeTokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocabulary_.add_bos && bos_ >= 0) ids.push_back(bos_);
  Scratch scratch;
  WordCache cache(text.size());
  for (const SpecialTokens::Fragment& fragment : special_.Partition(text, options.parse_special)) {
    if (fragment.token >= 0) {
      ids.push_back(fragment.token);
      continue;
    }
    for (const absl::string_view word : pretokenizer_->Split(fragment.text)) {
      cache.Append(word, &ids, [&](absl::string_view piece) { EncodeWord(piece, &scratch, &ids); });
    }
  }
  if (options.add_special && vocabulary_.add_eos && eos_ >= 0) ids.push_back(eos_);
  return ids;
}

void BpeTokenizer::EncodeWord(absl::string_view word, Scratch* scratch, std::vector<TokenId>* out) const {
  if (pretokenizer_->ignore_merges() && word.size() <= longest_spelling_) {
    const auto it = by_spelling_.find(SpellBytes(word));
    if (it != by_spelling_.end() && it->second < static_cast<Symbol>(vocab_size_)) {
      out->push_back(static_cast<TokenId>(it->second));
      return;
    }
  }
  auto& nodes = scratch->nodes;
  auto& heap = scratch->heap;
  nodes.clear();
  heap.clear();
  for (const char c : word) {
    const int32_t index = static_cast<int32_t>(nodes.size());
    nodes.push_back({byte_symbol_[static_cast<uint8_t>(c)], index - 1, index + 1});
  }
  nodes.back().next = -1;
  const auto candidate = [&](int32_t left) {
    const Symbol left_symbol = nodes[left].symbol, right_symbol = nodes[nodes[left].next].symbol;
    if (const Merge* merge = FindMerge(left_symbol, right_symbol)) {
      heap.push_back({merge->rank, left, left_symbol, right_symbol, merge->result});
      return true;
    }
    return false;
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(nodes.size()); ++i) candidate(i);
  std::make_heap(heap.begin(), heap.end());

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Node& left = nodes[best.left];
    if (left.symbol != best.left_symbol || left.next < 0 || nodes[left.next].symbol != best.right_symbol) continue;
    Scratch::Node& right = nodes[left.next];
    left.symbol = best.result;
    right.symbol = kGone;
    left.next = right.next;
    if (left.next >= 0) nodes[left.next].previous = best.left;
    if (left.previous >= 0 && candidate(left.previous)) std::push_heap(heap.begin(), heap.end());
    if (left.next >= 0 && candidate(best.left)) std::push_heap(heap.begin(), heap.end());
  }
  for (int32_t i = 0; i >= 0; i = nodes[i].next) Emit(nodes[i].symbol, out);
}

void BpeTokenizer::Emit(Symbol symbol, std::vector<TokenId>* out) const {
  if (symbol < static_cast<Symbol>(vocab_size_)) {
    out->push_back(static_cast<TokenId>(symbol));
    return;
  }
  // The merges led to a string that is no token: its bytes stand for it.
  for (const char c : UnspellBytes(virtual_[symbol - vocab_size_])) {
    const Symbol byte = byte_symbol_[static_cast<uint8_t>(c)];
    if (byte < static_cast<Symbol>(vocab_size_)) {
      out->push_back(static_cast<TokenId>(byte));
    } else if (vocabulary_.unknown >= 0) {
      out->push_back(vocabulary_.unknown);
    }
  }
}

std::string BpeTokenizer::Piece(TokenId id, bool render_special) const {
  if (id < 0 || id >= vocab_size_) return "";
  const std::string& spelling = vocabulary_.spellings[id];
  switch (vocabulary_.types[id]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return render_special ? spelling : "";
    case TokenType::kUserDefined:
      return spelling;
    case TokenType::kUndefined:
    case TokenType::kNormal:
    case TokenType::kUnused:
    case TokenType::kByte:
      return UnspellBytes(spelling);
  }
  return "";
}

absl::string_view BpeTokenizer::Spelling(TokenId id) const {
  return id < 0 || id >= vocab_size_ ? absl::string_view() : absl::string_view(vocabulary_.spellings[id]);
}

}  // namespace tandem::engine
