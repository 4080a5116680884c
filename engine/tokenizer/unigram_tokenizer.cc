#include "engine/tokenizer/unigram_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/escaped_space.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine {
namespace {

constexpr TokenId kEndOfT5 = 1, kUnknownOfT5 = 2;  // for files that do not name theirs
constexpr double kUnknownPenalty = 10.0;

absl::StatusOr<Charsmap> LoadCharsmap(const GgufFile& file) {
  constexpr absl::string_view kKey = "tokenizer.ggml.precompiled_charsmap";
  if (!file.Has(kKey)) return Charsmap();
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int64_t> bytes, file.GetInts(kKey));
  if (bytes.empty()) return Charsmap();
  std::string raw;
  raw.reserve(bytes.size());
  for (const int64_t byte : bytes) {
    if (byte < -128 || byte > 255) {
      return absl::InvalidArgumentError(absl::StrCat(kKey, " holds ", byte, ", which is no byte"));
    }
    raw.push_back(static_cast<char>(byte));
  }
  return Charsmap::Parse(raw);
}

}  // namespace

UnigramTokenizer::UnigramTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)), special_(vocabulary_) {
  vocab_size_ = vocabulary_.size();
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  end_of_generation_ = vocabulary_.end_of_generation;
  for (TokenId id = 0; id < vocab_size_; ++id) {
    if (vocabulary_.IsText(id) || vocabulary_.types[id] == TokenType::kUserDefined) {
      spellings_.Add(vocabulary_.spellings[id], id);
    }
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> UnigramTokenizer::Create(const GgufFile& file) {
  TANDEM_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Load(file, /*default_add_bos=*/false));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.add_eos, OptionalBool(file, "tokenizer.ggml.add_eos_token", true));
  if (vocabulary.unknown < 0 && kUnknownOfT5 < vocabulary.size()) vocabulary.unknown = kUnknownOfT5;
  if (vocabulary.eos < 0 && kEndOfT5 < vocabulary.size()) {
    vocabulary.eos = kEndOfT5;
    auto& ends = vocabulary.end_of_generation;
    if (!std::binary_search(ends.begin(), ends.end(), kEndOfT5)) {
      ends.insert(std::lower_bound(ends.begin(), ends.end(), kEndOfT5), kEndOfT5);
    }
  }
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.types[id] == TokenType::kByte) {
      TANDEM_RETURN_IF_ERROR(ParseByteToken(vocabulary.spellings[id], id).status());
    }
  }
  std::unique_ptr<UnigramTokenizer> result(new UnigramTokenizer(std::move(vocabulary)));
  TANDEM_RETURN_IF_ERROR(result->LoadScores(file));
  TANDEM_ASSIGN_OR_RETURN(result->charsmap_, LoadCharsmap(file));
  TANDEM_ASSIGN_OR_RETURN(result->add_space_prefix_, OptionalBool(file, "tokenizer.ggml.add_space_prefix", false));
  TANDEM_ASSIGN_OR_RETURN(result->merge_spaces_, OptionalBool(file, "tokenizer.ggml.remove_extra_whitespaces", false));
  return result;
}

absl::Status UnigramTokenizer::LoadScores(const GgufFile& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<float> scores, vocabulary_.LoadScores(file));
  scores_.assign(scores.begin(), scores.end());
  double lowest = std::numeric_limits<double>::max();
  for (TokenId id = 0; id < vocab_size_; ++id) {
    double& score = scores_[static_cast<size_t>(id)];
    if (!std::isfinite(score)) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.scores[", id, "] is infinite"));
    }
    if (vocabulary_.types[id] == TokenType::kUserDefined) score = 0.0;
    if (vocabulary_.types[id] == TokenType::kNormal) lowest = std::min(lowest, score);
  }
  unknown_score_ = (lowest == std::numeric_limits<double>::max() ? 0.0 : lowest) - kUnknownPenalty;
  return absl::OkStatus();
}

std::vector<TokenId> UnigramTokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocabulary_.add_bos && bos_ >= 0) ids.push_back(bos_);
  for (const SpecialTokens::Fragment& fragment : special_.Partition(text, options.parse_special)) {
    if (fragment.token >= 0) {
      ids.push_back(fragment.token);
    } else {
      EncodePlain(Normalize(fragment.text), &ids);
    }
  }
  if (options.add_special && vocabulary_.add_eos && eos_ >= 0) ids.push_back(eos_);
  return ids;
}

std::string UnigramTokenizer::Normalize(absl::string_view text) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  bool space_due = add_space_prefix_;  // before the next character
  const auto put = [&](absl::string_view characters) {
    for (const char c : characters) {
      if (c == ' ' && merge_spaces_) {
        space_due = space_due || !out.empty();
        continue;
      }
      if (std::exchange(space_due, false)) out.append(kEscapedSpace.data(), kEscapedSpace.size());
      if (c == ' ') {
        out.append(kEscapedSpace.data(), kEscapedSpace.size());
      } else {
        out.push_back(c);
      }
    }
  };
  while (!text.empty()) {
    const Charsmap::Match match = charsmap_.LongestMatch(text);
    const Utf8Step step = NextUtf8(text);
    if (match.bytes > 0) {
      put(match.replacement);
    } else {
      put(step.status == Utf8Status::kWhole ? text.substr(0, step.bytes) : kReplacementCharacter);
    }
    text.remove_prefix(match.bytes > 0 ? match.bytes : step.bytes);
  }
  return out;
}

void UnigramTokenizer::EncodePlain(absl::string_view text, std::vector<TokenId>* out) const {
  struct Best {  // the best way to write the text up to here
    double score = -std::numeric_limits<double>::infinity();
    TokenId last = -1;  // -1: unknown
    size_t begin = 0;   // of the last token
  };
  std::vector<Best> best(text.size() + 1);
  best[0].score = 0;
  const auto offer = [&best](size_t begin, size_t end, TokenId token, double score) {
    if (score > best[end].score) best[end] = {score, token, begin};
  };
  for (size_t begin = 0; begin < text.size();) {
    const double score = best[begin].score;
    const size_t character = NextUtf8(text.substr(begin)).bytes;
    bool spelled = false;  // some token is this one character
    int64_t node = ByteTrie::kRoot;
    for (size_t end = begin; end < text.size();) {
      node = spellings_.Step(node, text[end++]);
      if (node == ByteTrie::kNone) break;
      const TokenId token = spellings_.token(node);
      if (token < 0) continue;
      spelled = spelled || end - begin == character;
      offer(begin, end, token, score + scores_[static_cast<size_t>(token)]);
    }
    if (!spelled) offer(begin, begin + character, -1, score + unknown_score_);
    begin += character;
  }

  const size_t first = out->size();
  bool after_unknown = false;
  for (size_t end = text.size(); end > 0; end = best[end].begin) {
    const bool unknown = best[end].last < 0;
    if (!unknown) {
      out->push_back(best[end].last);
    } else if (!after_unknown && vocabulary_.unknown >= 0) {
      out->push_back(vocabulary_.unknown);
    }
    after_unknown = unknown;
  }
  std::reverse(out->begin() + static_cast<ptrdiff_t>(first), out->end());
}

std::string UnigramTokenizer::Piece(TokenId id, bool render_special) const {
  return UnescapedPiece(vocabulary_, id, render_special);
}

absl::string_view UnigramTokenizer::Spelling(TokenId id) const {
  return id < 0 || id >= vocab_size_ ? absl::string_view() : absl::string_view(vocabulary_.spellings[id]);
}

}  // namespace tandem::engine
