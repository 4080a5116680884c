#include "engine/conversion/random_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/conversion/random_blocks.h"
#include "engine/gguf/gguf_writer.h"

namespace tandem::engine {
namespace {

// Sizes as their makers published them.
const std::vector<ModelShape>& Shapes() {
  static const auto* const kShapes = new std::vector<ModelShape>{
      {"llama-1b", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 5e5f, 0, 0, true},
      {"llama-7b", "llama", 32, 4096, 11008, 32, 32, 128, 32000, 4096},
      {"llama-13b", "llama", 40, 5120, 13824, 40, 40, 128, 32000, 4096},
      {"llama-30b", "llama", 60, 6656, 17920, 52, 52, 128, 32000, 2048},
      {"llama-65b", "llama", 80, 8192, 22016, 64, 64, 128, 32000, 2048},
      {"llama3-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 8192, 5e5f},
      {"llama3-70b", "llama", 80, 8192, 28672, 64, 8, 128, 128256, 8192, 5e5f},
      {"mixtral-8x7b", "llama", 32, 4096, 14336, 32, 8, 128, 32000, 32768, 1e6f, 8, 2},
      {"qwen2-7b", "qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 32768, 1e6f},
      {"qwen3-32b", "qwen3", 64, 5120, 25600, 64, 8, 128, 151936, 40960, 1e6f},
      {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 768, 32, 4, 128, 151936, 40960, 1e6f, 128, 8},
      {"deepseek-v3",
       "deepseek2",
       61,
       7168,
       2048,
       128,
       1,
       192,
       129280,
       4096,
       1e4f,
       256,
       8,
       false,
       {.q_rank = 1536,
        .kv_rank = 512,
        .rope_dim = 64,
        .value_dim = 128,
        .dense_layers = 3,
        .dense_ffn = 18432,
        .shared_experts = 1}},
  };
  return *kShapes;
}

struct Part {
  std::string name;
  std::vector<uint64_t> dims;  // fastest axis first
  enum class Fill { kRandom, kOnes, kZeros } fill = Fill::kRandom;
};
using enum Part::Fill;

class PartList {
 public:
  explicit PartList(const ModelShape& shape) : shape_(shape) {}

  std::vector<Part> All() {
    Matrix("token_embd", shape_.vocab, shape_.hidden);
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      prefix_ = absl::StrCat("blk.", layer, ".");
      Vector("attn_norm.weight", shape_.hidden, kOnes);
      is_deepseek() ? LowRankAttention() : Attention();
      Vector("ffn_norm.weight", shape_.hidden, kOnes);
      if (shape_.experts == 0) {
        FeedForward("", shape_.ffn, 1);
      } else if (layer < shape_.deepseek.dense_layers) {
        FeedForward("", shape_.deepseek.dense_ffn, 1);
      } else {
        Mixture();
      }
    }
    prefix_.clear();
    Vector("output_norm.weight", shape_.hidden, kOnes);
    if (!shape_.tied_head) Matrix("output", shape_.vocab, shape_.hidden);
    return std::move(parts_);
  }

 private:
  void Matrix(absl::string_view name, int64_t rows, int64_t cols, int64_t experts = 1) {
    Part part{absl::StrCat(prefix_, name, ".weight"), {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)}};
    if (experts > 1) part.dims.push_back(experts);
    parts_.push_back(std::move(part));
  }
  void Vector(absl::string_view name, int64_t size, Part::Fill fill) {
    parts_.push_back({absl::StrCat(prefix_, name), {static_cast<uint64_t>(size)}, fill});
  }

  void Attention() {
    const int64_t q = int64_t{shape_.heads} * shape_.head_dim, kv = int64_t{shape_.kv_heads} * shape_.head_dim;
    const bool has_head_norms = absl::StartsWith(shape_.architecture, "qwen3");
    Matrix("attn_q", q, shape_.hidden);
    Matrix("attn_k", kv, shape_.hidden);
    Matrix("attn_v", kv, shape_.hidden);
    if (shape_.architecture == "qwen2") {
      Vector("attn_q.bias", q, kZeros);
      Vector("attn_k.bias", kv, kZeros);
      Vector("attn_v.bias", kv, kZeros);
    }
    if (has_head_norms) Vector("attn_q_norm.weight", shape_.head_dim, kOnes);
    if (has_head_norms) Vector("attn_k_norm.weight", shape_.head_dim, kOnes);
    Matrix("attn_output", shape_.hidden, q);
  }

  void LowRankAttention() {
    const ModelShape::DeepSeek& ds = shape_.deepseek;
    Matrix("attn_q_a", ds.q_rank, shape_.hidden);
    Vector("attn_q_a_norm.weight", ds.q_rank, kOnes);
    Matrix("attn_q_b", int64_t{shape_.heads} * shape_.head_dim, ds.q_rank);
    Matrix("attn_kv_a_mqa", ds.kv_rank + ds.rope_dim, shape_.hidden);
    Vector("attn_kv_a_norm.weight", ds.kv_rank, kOnes);
    Matrix("attn_k_b", ds.kv_rank, shape_.head_dim - ds.rope_dim, shape_.heads);
    Matrix("attn_v_b", ds.value_dim, ds.kv_rank, shape_.heads);
    Matrix("attn_output", shape_.hidden, int64_t{shape_.heads} * ds.value_dim);
  }

  void Mixture() {
    Matrix("ffn_gate_inp", shape_.experts, shape_.hidden);
    FeedForward("_exps", shape_.ffn, shape_.experts);
    if (!is_deepseek()) return;
    Vector("exp_probs_b.bias", shape_.experts, kZeros);
    FeedForward("_shexp", int64_t{shape_.deepseek.shared_experts} * shape_.ffn, 1);
  }

  void FeedForward(const char* end, int64_t ffn, int64_t experts) {
    Matrix(absl::StrCat("ffn_gate", end), ffn, shape_.hidden, experts);
    Matrix(absl::StrCat("ffn_up", end), ffn, shape_.hidden, experts);
    Matrix(absl::StrCat("ffn_down", end), shape_.hidden, ffn, experts);
  }

  bool is_deepseek() const { return shape_.architecture == "deepseek2"; }

  const ModelShape& shape_;
  std::string prefix_;
  std::vector<Part> parts_;
};

// Sets the numbers of one architecture.
class HyperparameterWriter {
 public:
  HyperparameterWriter(const ModelShape& shape, GgufWriter* writer) : shape_(shape), writer_(*writer) {}

  void WriteAll() {
    Int("block_count", shape_.layers);
    Int("context_length", shape_.context);
    Int("embedding_length", shape_.hidden);
    Int("attention.head_count", shape_.heads);
    Int("attention.head_count_kv", shape_.kv_heads);
    Int("vocab_size", shape_.vocab);
    Float("attention.layer_norm_rms_epsilon", 1e-5f);
    Float("rope.freq_base", shape_.rope_base);
    if (shape_.experts > 0) {
      Int("expert_count", shape_.experts);
      Int("expert_used_count", shape_.experts_used);
      if (shape_.architecture != "llama") Int("expert_feed_forward_length", shape_.ffn);
    }
    shape_.architecture == "deepseek2" ? DeepSeek() : Plain();
  }

 private:
  void Int(const char* key, int32_t value) { writer_.SetUint32(Key(key), static_cast<uint32_t>(value)); }
  void Float(const char* key, float value) { writer_.SetFloat32(Key(key), value); }
  std::string Key(const char* key) const { return absl::StrCat(shape_.architecture, ".", key); }

  void Plain() {
    Int("feed_forward_length", shape_.ffn);
    Int("attention.key_length", shape_.head_dim);
    Int("attention.value_length", shape_.head_dim);
    Int("rope.dimension_count", shape_.head_dim);
  }

  void DeepSeek() {
    const ModelShape::DeepSeek& ds = shape_.deepseek;
    constexpr int32_t kSigmoid = 2;
    Int("feed_forward_length", ds.dense_ffn);
    Int("attention.q_lora_rank", ds.q_rank);
    Int("attention.kv_lora_rank", ds.kv_rank);
    Int("attention.key_length", ds.kv_rank + ds.rope_dim);
    Int("attention.value_length", ds.kv_rank);
    Int("attention.key_length_mla", shape_.head_dim);
    Int("attention.value_length_mla", ds.value_dim);
    Int("rope.dimension_count", ds.rope_dim);
    Int("leading_dense_block_count", ds.dense_layers);
    Int("expert_shared_count", ds.shared_experts);
    Int("expert_gating_func", kSigmoid);
    Float("expert_weights_scale", 2.5f);
    writer_.SetBool(Key("expert_weights_norm"), true);
  }

  const ModelShape& shape_;
  GgufWriter& writer_;
};

void SetMetadata(const ModelShape& shape, const FileType& type, GgufWriter* writer) {
  writer->SetString("general.architecture", shape.architecture);
  writer->SetString("general.name", absl::StrCat(shape.name, " with random weights"));
  writer->SetUint32("general.file_type", type.number);
  writer->SetUint32("general.quantization_version", 2);
  HyperparameterWriter(shape, writer).WriteAll();
}

// SentencePiece style: every text is a sequence of byte tokens.
void SetVocabulary(int32_t size, GgufWriter* writer) {
  constexpr int32_t kUnknown = 2, kControl = 3, kUnused = 5, kByte = 6;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {kUnknown, kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(absl::StrFormat("<0x%02X>", byte));
    types.push_back(kByte);
  }
  while (static_cast<int32_t>(tokens.size()) < size) {
    tokens.push_back(absl::StrCat("<unused", tokens.size(), ">"));
    types.push_back(kUnused);
  }
  writer->SetString("tokenizer.ggml.model", "llama");
  writer->SetStrings("tokenizer.ggml.tokens", tokens);
  writer->SetFloats("tokenizer.ggml.scores", std::vector<float>(tokens.size()));
  writer->SetInt32s("tokenizer.ggml.token_type", types);
  writer->SetUint32("tokenizer.ggml.unknown_token_id", 0);
  writer->SetUint32("tokenizer.ggml.bos_token_id", 1);
  writer->SetUint32("tokenizer.ggml.eos_token_id", 2);
  writer->SetBool("tokenizer.ggml.add_bos_token", true);
}

absl::Status CheckShape(const ModelShape& shape) {
  const auto range = [](const char* what, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s is %d, expected %d to %d", what, value, min, max));
  };
  TANDEM_RETURN_IF_ERROR(range("the number of layers", shape.layers, 1, 4096));
  TANDEM_RETURN_IF_ERROR(range("the hidden size", shape.hidden, 1, 1 << 20));
  TANDEM_RETURN_IF_ERROR(range("the FFN size", shape.ffn, 1, 1 << 22));
  TANDEM_RETURN_IF_ERROR(range("the number of heads", shape.heads, 1, 1 << 16));
  TANDEM_RETURN_IF_ERROR(range("the number of KV heads", shape.kv_heads, 1, shape.heads));
  TANDEM_RETURN_IF_ERROR(range("the size of a head", shape.head_dim, 1, 4096));
  TANDEM_RETURN_IF_ERROR(range("the vocabulary", shape.vocab, kMinVocab, 1 << 24));
  TANDEM_RETURN_IF_ERROR(range("the context", shape.context, 1, 1 << 30));
  TANDEM_RETURN_IF_ERROR(range("the number of experts", shape.experts, 0, 1 << 16));
  TANDEM_RETURN_IF_ERROR(range("the number of experts used", shape.experts_used, shape.experts > 0, shape.experts));
  for (const char* known : {"llama", "qwen2", "qwen3", "qwen3moe"}) {
    if (shape.architecture == known) return absl::OkStatus();
  }
  if (shape.architecture == "deepseek2") {
    const ModelShape::DeepSeek& ds = shape.deepseek;
    TANDEM_RETURN_IF_ERROR(range("the rank of the keys", ds.kv_rank, 1, 1 << 16));
    TANDEM_RETURN_IF_ERROR(range("the rank of the queries", ds.q_rank, 1, 1 << 16));
    TANDEM_RETURN_IF_ERROR(range("the rotating part of a head", ds.rope_dim, 1, shape.head_dim - 1));
    TANDEM_RETURN_IF_ERROR(range("the number of experts", shape.experts, 1, 1 << 16));
    return range("the number of layers without experts", ds.dense_layers, 0, shape.layers);
  }
  return absl::UnimplementedError(absl::StrCat("models of architecture \"", shape.architecture,
                                               "\" cannot be made; llama, qwen2, qwen3, qwen3moe and deepseek2 can"));
}

// What is written to a tensor.
struct Target {
  TensorType type = TensorType::kF32;
  Part::Fill fill = kRandom;
  const RandomBlocks* blocks = nullptr;  // of kRandom
};

class BlockCache {
 public:
  absl::StatusOr<const RandomBlocks*> For(TensorType type, uint64_t cols) {
    auto& blocks = cache_[{type, cols}];
    if (blocks == nullptr) {
      // Products of a row with inputs of size 1 have size 1.
      const float spread = 1.0f / std::sqrt(static_cast<float>(cols));
      TANDEM_ASSIGN_OR_RETURN(RandomBlocks created, RandomBlocks::Create(type, spread));
      blocks = std::make_unique<RandomBlocks>(std::move(created));
    }
    return blocks.get();
  }

 private:
  std::map<std::pair<TensorType, uint64_t>, std::unique_ptr<RandomBlocks>> cache_;
};

void FillPiece(const Target& target, uint64_t seed, std::span<std::byte> out) {
  if (target.fill == kRandom) return target.blocks->Fill(seed, out);
  const float value = target.fill == kOnes ? 1.0f : 0.0f;
  const auto bytes = std::as_bytes(std::span(&value, 1));
  for (size_t at = 0; at < out.size(); ++at) out[at] = bytes[at % sizeof(float)];
}

}  // namespace

std::span<const ModelShape> AllModelShapes() { return Shapes(); }

const ModelShape* FindModelShape(absl::string_view name) {
  const auto& shapes = Shapes();
  const auto it = std::find_if(shapes.begin(), shapes.end(),
                               [&](const ModelShape& shape) { return absl::EqualsIgnoreCase(shape.name, name); });
  return it == shapes.end() ? nullptr : &*it;
}

absl::Status WriteRandomModel(const ModelShape& shape, const FileType& type, uint64_t seed, const std::string& path,
                              ThreadPool& pool, const PieceProgress& progress, const std::function<bool()>& cancelled) {
  TANDEM_RETURN_IF_ERROR(CheckShape(shape));
  GgufWriter writer;
  SetMetadata(shape, type, &writer);
  SetVocabulary(shape.vocab, &writer);
  const MixModel mix{.architecture = shape.architecture,
                     .layers = shape.layers,
                     .heads_per_kv = shape.heads / shape.kv_heads,
                     .experts = shape.experts,
                     .tied_head = shape.tied_head};
  BlockCache cache;
  std::vector<Target> targets;
  std::vector<PieceShape> pieces;
  for (const Part& part : PartList(shape).All()) {
    const GgufTensor tensor{.name = part.name, .type = TensorType::kF32, .dims = part.dims};
    Target target{.fill = part.fill};
    if (IsQuantized(tensor)) target.type = MixedType(type, mix, tensor);
    if (part.fill == kRandom) {
      TANDEM_ASSIGN_OR_RETURN(target.blocks, cache.For(target.type, tensor.cols()));
    }
    TANDEM_RETURN_IF_ERROR(writer.ReserveTensor(part.name, target.type, part.dims));
    TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(target.type, part.dims));
    pieces.push_back({.rows = tensor.rows(), .row_bytes = bytes / tensor.rows()});
    targets.push_back(target);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<GgufOutput> output, writer.Create(path));
  std::vector<std::vector<std::byte>> buffers(pool.size());
  const auto write = [&](const Piece& piece, int part) {
    std::vector<std::byte>& buffer = buffers[part];
    buffer.resize(piece.rows * pieces[piece.tensor].row_bytes);
    FillPiece(targets[piece.tensor], seed * 0x9E3779B97F4A7C15u + (uint64_t{piece.tensor} << 32) + piece.first_row,
              buffer);
    return output->Write(piece.tensor, piece.first_row * pieces[piece.tensor].row_bytes, buffer);
  };
  TANDEM_RETURN_IF_ERROR(ForEachPiece(pieces, pool, progress, cancelled, write));
  return output->Finish();
}

}  // namespace tandem::engine
