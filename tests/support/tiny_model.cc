#include "tests/support/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/gguf/gguf_split.h"
#include "engine/gguf/gguf_writer.h"
#include "tests/support/random.h"

namespace tandem::testing {
namespace {

using engine::BlockFormat;
using engine::FindBlockFormat;
using engine::GgufWriter;
using engine::TensorType;

// Pieces for both vocabularies; a SentencePiece one writes the space as U+2581, byte-level BPE as U+0120.
constexpr const char* kWords[] = {" the", " a",   " cat", " dog", " sat", " on",  " mat", " ran",
                                  " to",  " and", " red", " one", " two", " his", " her", " was"};
constexpr const char* kSpaceSentencePiece = "\xE2\x96\x81";
constexpr const char* kSpaceBpe = "\xC4\xA0";

void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "tiny model: %s\n", status.ToString().c_str());
  std::abort();
}

std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The character that stands for `byte` in byte-level BPE vocabularies: itself where printable, else from U+0100 on.
std::string BpeByte(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  if (printable(byte)) return Utf8(byte);
  int rank = 0;
  for (int b = 0; b < byte; ++b) rank += printable(b) ? 0 : 1;
  return Utf8(256 + rank);
}

void AddSentencePieceVocab(const TinyModelShape& shape, TinyModel* model) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  std::vector<float> scores(259, 0.0f);
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(absl::StrFormat("<0x%02X>", byte));
    types.push_back(6);
  }
  const auto add = [&](std::string piece) {
    tokens.push_back(std::move(piece));
    types.push_back(1);
    scores.push_back(-static_cast<float>(tokens.size()));
  };
  add(kSpaceSentencePiece);
  for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c));
  for (size_t i = 0; tokens.size() < static_cast<size_t>(shape.vocab_size); ++i) {
    add(i < std::size(kWords) ? absl::StrCat(kSpaceSentencePiece, kWords[i] + 1)
                              : absl::StrCat(kSpaceSentencePiece, "w", i));
  }
  model->metadata["tokenizer.ggml.model"] = std::string("llama");
  model->metadata["tokenizer.ggml.tokens"] = std::move(tokens);
  model->metadata["tokenizer.ggml.scores"] = std::move(scores);
  model->metadata["tokenizer.ggml.token_type"] = std::move(types);
  model->metadata["tokenizer.ggml.bos_token_id"] = uint32_t{1};
  model->metadata["tokenizer.ggml.eos_token_id"] = uint32_t{2};
  model->metadata["tokenizer.ggml.unknown_token_id"] = uint32_t{0};
  model->metadata["tokenizer.ggml.add_bos_token"] = true;
  model->metadata["tokenizer.ggml.add_eos_token"] = false;
}

void AddByteBpeVocab(const TinyModelShape& shape, TinyModel* model) {
  std::vector<std::string> tokens, merges;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(BpeByte(byte));
  std::vector<int32_t> types(256, 1);
  const size_t specials = shape.vocab_size - 4;
  // Each word becomes a token by merging one letter after the other, so that its beginnings are tokens too.
  for (const char* word : kWords) {
    std::string piece = kSpaceBpe;
    for (const char* c = word + 1; *c != 0 && tokens.size() < specials; ++c) {
      std::string longer = piece + *c;
      if (std::find(tokens.begin(), tokens.end(), longer) == tokens.end()) {
        merges.push_back(absl::StrCat(piece, " ", std::string(1, *c)));
        tokens.push_back(longer);
        types.push_back(1);
      }
      piece = std::move(longer);
    }
  }
  while (tokens.size() < specials) {
    tokens.push_back(absl::StrCat("<|unused", tokens.size(), "|>"));
    types.push_back(5);
  }
  for (const char* special : {"<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"}) {
    tokens.push_back(special);
    types.push_back(3);
  }
  model->metadata["tokenizer.ggml.model"] = std::string("gpt2");
  model->metadata["tokenizer.ggml.pre"] = std::string("gpt-2");
  model->metadata["tokenizer.ggml.tokens"] = std::move(tokens);
  model->metadata["tokenizer.ggml.merges"] = std::move(merges);
  model->metadata["tokenizer.ggml.token_type"] = std::move(types);
  model->metadata["tokenizer.ggml.bos_token_id"] = static_cast<uint32_t>(specials);
  model->metadata["tokenizer.ggml.eos_token_id"] = static_cast<uint32_t>(specials + 1);
  model->metadata["tokenizer.ggml.add_bos_token"] = true;
}

void AddHyperparameters(const TinyModelShape& shape, TinyModel* model) {
  const auto set = [&](const char* name, int32_t value) {
    model->metadata[absl::StrCat("llama.", name)] = static_cast<uint32_t>(value);
  };
  model->metadata["general.architecture"] = std::string("llama");
  model->metadata["general.name"] = std::string("tiny");
  set("context_length", shape.context);
  set("embedding_length", shape.hidden);
  set("block_count", shape.layers);
  set("feed_forward_length", shape.ffn);
  set("attention.head_count", shape.heads);
  set("attention.head_count_kv", shape.kv_heads);
  set("attention.key_length", shape.head_dim);
  set("attention.value_length", shape.head_dim);
  set("rope.dimension_count", shape.head_dim);
  model->metadata["llama.attention.layer_norm_rms_epsilon"] = 1e-5f;
  model->metadata["llama.rope.freq_base"] = 10000.0f;
}

void AddWeights(const TinyModelShape& shape, TinyModel* model) {
  Random random(shape.seed);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    std::vector<float> values(rows * cols);
    const float scale = 1.7f / std::sqrt(static_cast<float>(cols));  // keeps the size of what goes through
    for (float& value : values) value = random.Uniform() * scale;
    model->SetTensor(name, shape.type, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)}, values);
  };
  const auto norm = [&](const std::string& name) {
    std::vector<float> values(shape.hidden);
    for (float& value : values) value = 1.0f + 0.25f * random.Uniform();
    model->SetTensor(name, TensorType::kF32, {values.size()}, values);
  };
  const int64_t q = int64_t{shape.heads} * shape.head_dim, kv = int64_t{shape.kv_heads} * shape.head_dim;
  matrix("token_embd.weight", shape.vocab_size, shape.hidden);
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    const std::string prefix = absl::StrCat("blk.", layer, ".");
    norm(prefix + "attn_norm.weight");
    matrix(prefix + "attn_q.weight", q, shape.hidden);
    matrix(prefix + "attn_k.weight", kv, shape.hidden);
    matrix(prefix + "attn_v.weight", kv, shape.hidden);
    matrix(prefix + "attn_output.weight", shape.hidden, q);
    norm(prefix + "ffn_norm.weight");
    matrix(prefix + "ffn_gate.weight", shape.ffn, shape.hidden);
    matrix(prefix + "ffn_up.weight", shape.ffn, shape.hidden);
    matrix(prefix + "ffn_down.weight", shape.hidden, shape.ffn);
  }
  norm("output_norm.weight");
  if (!shape.tied_head) matrix("output.weight", shape.vocab_size, shape.hidden);
}

// One overload a type of metadata value.
struct MetadataSetter {
  GgufWriter& writer;
  const std::string& key;
  void operator()(uint32_t value) const { writer.SetUint32(key, value); }
  void operator()(int32_t value) const { writer.SetInt32(key, value); }
  void operator()(float value) const { writer.SetFloat32(key, value); }
  void operator()(bool value) const { writer.SetBool(key, value); }
  void operator()(const std::string& value) const { writer.SetString(key, value); }
  void operator()(const std::vector<std::string>& value) const { writer.SetStrings(key, value); }
  void operator()(const std::vector<float>& value) const { writer.SetFloats(key, value); }
  void operator()(const std::vector<int32_t>& value) const { writer.SetInt32s(key, value); }
};

GgufWriter FillWriter(const TinyModel& model) {
  GgufWriter writer;
  for (const auto& [key, value] : model.metadata) std::visit(MetadataSetter{writer, key}, value);
  for (const auto& [name, tensor] : model.tensors) {
    Require(writer.AddTensor(name, tensor.type, tensor.dims, tensor.data));
  }
  return writer;
}

}  // namespace

void TinyModel::SetTensor(const std::string& name, TensorType type, std::vector<uint64_t> dims,
                          const std::vector<float>& values) {
  const BlockFormat& format = *FindBlockFormat(type);
  TinyTensor tensor{.dims = std::move(dims), .type = type};
  tensor.data.resize(values.size() / format.block_elements * format.block_bytes);
  format.quantize(values.data(), nullptr, tensor.data.data(), values.size());
  tensors[name] = std::move(tensor);
}

std::vector<std::byte> TinyModel::Serialize() const { return FillWriter(*this).Serialize(); }
absl::Status TinyModel::Write(const std::string& path) const { return FillWriter(*this).Write(path); }

std::vector<std::vector<std::byte>> TinyModel::SerializeParts(int count) const {
  std::vector<std::vector<std::byte>> result;
  auto next = tensors.begin();
  for (int part = 0; part < count; ++part) {
    TinyModel piece;
    if (part == 0) piece.metadata = metadata;
    piece.metadata[engine::kSplitNoKey] = static_cast<uint32_t>(part);
    piece.metadata[engine::kSplitCountKey] = static_cast<uint32_t>(count);
    piece.metadata[engine::kSplitTensorsKey] = static_cast<int32_t>(tensors.size());
    const size_t end = tensors.size() * (part + 1) / count;
    for (size_t i = tensors.size() * part / count; i < end; ++i) piece.tensors.insert(*next++);
    result.push_back(piece.Serialize());
  }
  return result;
}

TinyModel MakeTinyModel(const TinyModelShape& shape) {
  TinyModel model;
  AddHyperparameters(shape, &model);
  if (shape.vocab == TinyVocab::kSentencePiece) {
    AddSentencePieceVocab(shape, &model);
  } else {
    AddByteBpeVocab(shape, &model);
  }
  AddWeights(shape, &model);
  return model;
}

TinyFile ParseTinyModel(const TinyModel& model) {
  TinyFile result{.bytes = model.Serialize()};
  absl::StatusOr<std::unique_ptr<engine::GgufFile>> file = engine::GgufFile::Parse(result.bytes);
  Require(file.status());
  result.file = *std::move(file);
  return result;
}

}  // namespace tandem::testing
