// Text to token ids and back, as the model's vocabulary defines it. Built from a GGUF file's tokenizer.* metadata.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = false;    // add BOS / EOS where the model's flags ask for it
  bool parse_special = false;  // text such as "<|im_end|>" that spells a control token becomes that token
};

// Role: the tokenizer of one model. Immutable after Create, hence thread-safe.
class Tokenizer {
 public:
  // Copies what it needs from `file`. Kinds, by tokenizer.ggml.model: "llama" (SentencePiece-style BPE), "gpt2"
  // (byte-level BPE), "bert" (WordPiece), "t5" (unigram). Errors: kInvalidArgument (missing or inconsistent metadata;
  // names the key), kUnimplemented (another kind or an unknown pre-tokeniser; names it).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const GgufFile& file);
  virtual ~Tokenizer() = default;

  virtual std::vector<TokenId> Encode(absl::string_view text, const EncodeOptions& options) const = 0;

  // Bytes of one token as they appear inside a text; control tokens give "" unless `render_special`. A byte token gives
  // its byte, so the result need not be whole UTF-8 characters. `id` out of range gives "".
  virtual std::string Piece(TokenId id, bool render_special = false) const = 0;
  // The whole text of `ids`, the leading space that Encode may have added removed. Not valid UTF-8 where `ids` is not
  // (a cut character, stray byte tokens); StreamDecoder's text always is.
  std::string Decode(const std::vector<TokenId>& ids, bool render_special = false) const;
  // True if Encode prefixes a space, which Decode and StreamDecoder remove from the start of a text.
  virtual bool strips_leading_space() const = 0;

  int32_t vocab_size() const { return vocab_size_; }
  TokenId bos() const { return bos_; }  // -1 where the model has none; likewise eos
  TokenId eos() const { return eos_; }
  // EOS and every other token that ends an answer (end of turn, end of message).
  bool IsEndOfGeneration(TokenId id) const;
  const std::vector<TokenId>& end_of_generation() const { return end_of_generation_; }
  // The token's own spelling in the vocabulary ("<|im_end|>"), for templates and people. "" if out of range.
  virtual absl::string_view Spelling(TokenId id) const = 0;

 protected:
  int32_t vocab_size_ = 0;
  TokenId bos_ = -1, eos_ = -1;
  std::vector<TokenId> end_of_generation_;
};

// Turns a stream of tokens into text, holding back bytes until they are whole UTF-8 characters. One per answer; not
// thread-safe.
class StreamDecoder {
 public:
  // `tokenizer` must outlive this. `at_text_start`: remove the space that Encode would have added before the first
  // token.
  StreamDecoder(const Tokenizer& tokenizer, bool at_text_start);
  // Text that became complete with `id`; may be "".
  std::string Push(TokenId id);
  // What is left at the end: an unfinished character is replaced by U+FFFD.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  bool strip_space_;
  std::string pending_;  // at most 3 bytes after each Push
};

}  // namespace tandem::engine
