#include "engine/tokenizer/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {
namespace {

constexpr absl::string_view kTokens = "tokenizer.ggml.tokens";
constexpr absl::string_view kScores = "tokenizer.ggml.scores";
constexpr absl::string_view kTypes = "tokenizer.ggml.token_type";

// Spellings by which chat models end an answer. Files often name only one of them as EOS, and some mark them as user
// defined, which would let the text of a user end a turn: a token spelled so is a control token and ends the answer.
constexpr absl::string_view kEndSpellings[] = {"</s>",          "<|im_end|>",
                                               "<|eot_id|>",    "<|eom_id|>",
                                               "<|endoftext|>", "<|end_of_text|>",
                                               "<end_of_turn>", "<|end|>",
                                               "<|EOT|>",       "<|END_OF_TURN_TOKEN|>",
                                               "<|return|>",    "<|call|>",
                                               "<|eot|>"};

absl::StatusOr<std::vector<TokenType>> LoadTypes(const GgufFile& file, size_t vocab_size) {
  if (!file.Has(kTypes)) return std::vector<TokenType>(vocab_size, TokenType::kNormal);
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int64_t> raw, file.GetInts(kTypes));
  if (raw.size() != vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(kTypes, " has ", raw.size(), " entries, but ", kTokens, " has ", vocab_size));
  }
  std::vector<TokenType> types;
  types.reserve(vocab_size);
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] < 0 || raw[i] > 6) {
      return absl::InvalidArgumentError(absl::StrCat(kTypes, "[", i, "] is ", raw[i], "; valid are 0 to 6"));
    }
    types.push_back(static_cast<TokenType>(raw[i]));
  }
  return types;
}

}  // namespace

absl::Status MissingIsInvalid(const absl::Status& status) {
  return absl::IsNotFound(status) ? absl::InvalidArgumentError(status.message()) : status;
}

absl::StatusOr<TokenId> OptionalId(const GgufFile& file, absl::string_view key, int32_t vocab_size) {
  if (!file.Has(key)) return -1;
  TANDEM_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id < 0 || id >= vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, " is ", id, ", outside the vocabulary of ", vocab_size, " tokens; fix the model file"));
  }
  return static_cast<TokenId>(id);
}

absl::StatusOr<bool> OptionalBool(const GgufFile& file, absl::string_view key, bool fallback) {
  if (!file.Has(key)) return fallback;
  return file.GetBool(key);
}

absl::StatusOr<Vocabulary> Vocabulary::Load(const GgufFile& file, bool default_add_bos) {
  Vocabulary vocabulary;
  const auto tokens = file.GetStrings(kTokens);
  if (!tokens.ok()) return MissingIsInvalid(tokens.status());
  if (tokens->empty() || tokens->size() > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kTokens, " has ", tokens->size(), " entries; valid are 1 to 2147483647"));
  }
  vocabulary.spellings.reserve(tokens->size());
  for (const absl::string_view token : *tokens) vocabulary.spellings.emplace_back(token);
  TANDEM_ASSIGN_OR_RETURN(vocabulary.types, LoadTypes(file, tokens->size()));

  const int32_t size = vocabulary.size();
  TANDEM_ASSIGN_OR_RETURN(vocabulary.bos, OptionalId(file, "tokenizer.ggml.bos_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.eos, OptionalId(file, "tokenizer.ggml.eos_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.unknown, OptionalId(file, "tokenizer.ggml.unknown_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(const TokenId end_of_turn, OptionalId(file, "tokenizer.ggml.eot_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(const TokenId end_of_message, OptionalId(file, "tokenizer.ggml.eom_token_id", size));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.add_bos, OptionalBool(file, "tokenizer.ggml.add_bos_token", default_add_bos));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.add_eos, OptionalBool(file, "tokenizer.ggml.add_eos_token", false));

  const absl::flat_hash_set<absl::string_view> end_spellings(std::begin(kEndSpellings), std::end(kEndSpellings));
  for (TokenId id = 0; id < size; ++id) {
    TokenType& type = vocabulary.types[id];
    const bool spells_end = end_spellings.contains(vocabulary.spellings[id]);
    if (spells_end && type == TokenType::kUserDefined) type = TokenType::kControl;
    const bool named = id == vocabulary.eos || id == end_of_turn || id == end_of_message;
    if (named || (spells_end && type == TokenType::kControl)) vocabulary.end_of_generation.push_back(id);
    if (type == TokenType::kUnknown && vocabulary.unknown < 0) vocabulary.unknown = id;
  }
  return vocabulary;
}

absl::StatusOr<std::vector<float>> Vocabulary::LoadScores(const GgufFile& file) const {
  const auto scores = file.GetFloats(kScores);
  if (!scores.ok()) return MissingIsInvalid(scores.status());
  if (scores->size() != spellings.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kScores, " has ", scores->size(), " entries, but ", kTokens, " has ", size()));
  }
  for (size_t i = 0; i < scores->size(); ++i) {
    if (std::isnan((*scores)[i])) return absl::InvalidArgumentError(absl::StrCat(kScores, "[", i, "] is not a number"));
  }
  return std::vector<float>(scores->begin(), scores->end());
}

}  // namespace tandem::engine
