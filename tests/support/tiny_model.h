// Small llama models with random weights and a working vocabulary, made in memory: for tests that need a model file
// but no particular text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "engine/gguf/gguf_file.h"
#include "engine/quant/block_format.h"

namespace tandem::testing {

enum class TinyVocab {
  kSentencePiece,  // ids 0-2 <unk> <s> </s>, 3-258 the bytes, then pieces
  kByteBpe,        // ids 0-255 the bytes, then merged pieces, the last four <|begin|> <|end|> <|user|> <|assistant|>
};

struct TinyModelShape {
  int32_t layers = 2;
  int32_t hidden = 64;
  int32_t ffn = 96;
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 16;
  int32_t vocab_size = 320;  // at least 300
  int32_t context = 256;
  engine::TensorType type = engine::TensorType::kF32;  // of the matrices; hidden and ffn are multiples of its block
  bool tied_head = false;
  TinyVocab vocab = TinyVocab::kSentencePiece;
  uint64_t seed = 1;
};

struct TinyTensor {
  std::vector<uint64_t> dims;  // fastest axis first
  engine::TensorType type = engine::TensorType::kF32;
  std::vector<std::byte> data;
};

// A model that a test may spoil before it is written: change, add or erase entries.
struct TinyModel {
  using Value = std::variant<uint32_t, int32_t, float, bool, std::string, std::vector<std::string>, std::vector<float>,
                             std::vector<int32_t>>;
  std::map<std::string, Value> metadata;
  std::map<std::string, TinyTensor> tensors;

  // Adds or replaces a tensor of `dims`, converting `values` to `type`.
  void SetTensor(const std::string& name, engine::TensorType type, std::vector<uint64_t> dims,
                 const std::vector<float>& values);
  // The file. Dies if an entry is impossible to write, which is a mistake in the test.
  std::vector<std::byte> Serialize() const;
  absl::Status Write(const std::string& path) const;
  // The same model cut into `count` parts, for files named as SplitName has it.
  std::vector<std::vector<std::byte>> SerializeParts(int count) const;
};

// The same shape gives the same bytes.
TinyModel MakeTinyModel(const TinyModelShape& shape);

// A parsed file together with its bytes.
struct TinyFile {
  std::vector<std::byte> bytes;
  std::unique_ptr<engine::GgufFile> file;
};
TinyFile ParseTinyModel(const TinyModel& model);
inline TinyFile ParseTinyModel(const TinyModelShape& shape) { return ParseTinyModel(MakeTinyModel(shape)); }

}  // namespace tandem::testing
