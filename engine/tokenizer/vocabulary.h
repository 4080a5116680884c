// The part of tokenizer.ggml.* that every kind of tokenizer shares, read and checked once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {

// Numbers of tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kUndefined = 0,  // treated as normal
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct Vocabulary {
  std::vector<std::string> spellings;  // by token id
  std::vector<TokenType> types;        // the same length
  TokenId bos = -1, eos = -1, unknown = -1;
  std::vector<TokenId> end_of_generation;  // ascending, without repeats
  bool add_bos = false, add_eos = false;   // as the file says, else the defaults given to Load

  int32_t size() const { return static_cast<int32_t>(spellings.size()); }
  // Part of running text, so that Piece and the merges may use it.
  bool IsText(TokenId id) const {
    return types[id] == TokenType::kNormal || types[id] == TokenType::kUndefined || types[id] == TokenType::kUnused;
  }

  // Errors: kInvalidArgument naming the key (tokens missing or empty, types of another length or out of range, a token
  // id outside the vocabulary).
  static absl::StatusOr<Vocabulary> Load(const GgufFile& file, bool default_add_bos);
  // tokenizer.ggml.scores, by token id; none is NaN. Errors: kInvalidArgument (missing, of another length, NaN).
  absl::StatusOr<std::vector<float>> LoadScores(const GgufFile& file) const;
};

// Value of an optional key that names a token; -1 if it is not there. Errors: kInvalidArgument (outside the
// vocabulary).
absl::StatusOr<TokenId> OptionalId(const GgufFile& file, absl::string_view key, int32_t vocab_size);

// Value of an optional flag. Errors: kInvalidArgument (the key has another type).
absl::StatusOr<bool> OptionalBool(const GgufFile& file, absl::string_view key, bool fallback);

// A missing key of a file is the file's fault: kNotFound becomes kInvalidArgument, other codes stay.
absl::Status MissingIsInvalid(const absl::Status& status);

}  // namespace tandem::engine
