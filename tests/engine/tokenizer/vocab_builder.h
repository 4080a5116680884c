// Handmade vocabularies for the tokenizer's tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/gguf_writer.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::engine {

// Collects tokens, then makes the tokenizer through a real GGUF file in memory.
class VocabBuilder {
 public:
  // `model`: "llama", "gpt2", "bert" or "t5".
  explicit VocabBuilder(const std::string& model) { writer_.SetString("tokenizer.ggml.model", model); }

  VocabBuilder& Add(const std::string& spelling, TokenType type = TokenType::kNormal, float score = 0.0f) {
    tokens_.push_back(spelling);
    types_.push_back(static_cast<int32_t>(type));
    scores_.push_back(score);
    return *this;
  }
  // <0x00> to <0xFF>.
  VocabBuilder& AddByteTokens() {
    constexpr char kHex[] = "0123456789ABCDEF";
    for (int byte = 0; byte < 256; ++byte) {
      Add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", TokenType::kByte);
    }
    return *this;
  }
  // The 256 single-byte tokens of byte-level BPE; the id of a byte is its value if this comes first.
  VocabBuilder& AddByteAlphabet() {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      Add(SpellBytes(absl::string_view(&c, 1)));
    }
    return *this;
  }
  VocabBuilder& Merge(const std::string& left, const std::string& right) {
    merges_.push_back(left + " " + right);
    return *this;
  }
  // A merge and the token that it makes.
  VocabBuilder& MergeToken(const std::string& left, const std::string& right) {
    Add(left + right);
    return Merge(left, right);
  }
  GgufWriter& metadata() { return writer_; }
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

  // Sets the arrays that were not left out and parses the tokenizer.
  absl::StatusOr<std::unique_ptr<Tokenizer>> Build() {
    if (with_tokens) writer_.SetStrings("tokenizer.ggml.tokens", tokens_);
    if (with_types) writer_.SetInt32s("tokenizer.ggml.token_type", types_);
    if (with_scores) writer_.SetFloats("tokenizer.ggml.scores", scores_);
    if (with_merges) writer_.SetStrings("tokenizer.ggml.merges", merges_);
    const std::vector<std::byte> bytes = writer_.Serialize();
    const auto file = GgufFile::Parse(bytes);
    if (!file.ok()) return file.status();
    return Tokenizer::Create(**file);
  }
  std::unique_ptr<Tokenizer> BuildOrDie() {
    auto tokenizer = Build();
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }

  bool with_tokens = true, with_types = true, with_scores = true, with_merges = true;

 private:
  GgufWriter writer_;
  std::vector<std::string> tokens_, merges_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
};

}  // namespace tandem::engine
