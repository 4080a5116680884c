#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/model_layout.h"

namespace tandem::engine {
namespace {

// Collects the tensors of one layer.
class Lister {
 public:
  Lister(const ModelSpec& spec, const GgufFile& file, int32_t layer)
      : spec_(spec), file_(file), layer_(spec.layers[layer]), prefix_(absl::StrCat("blk.", layer, ".")) {}

  std::vector<LayerTensor> List() {
    ListNorms();
    spec_.kv_rank > 0 ? ListCompressedAttention() : ListAttention();
    if (spec_.row->sinks) Vector("attn_sinks.weight", &LayerWeights::sinks, spec_.heads);
    if (layer_.ffn > 0) {
      ListFfn("", layer_.ffn);
    } else {
      ListExperts();
    }
    return std::move(tensors_);
  }

 private:
  using VectorMember = engine::Vector LayerWeights::*;
  using MatrixMember = PackedMatrix LayerWeights::*;
  using MatricesMember = Matrices LayerWeights::*;

  const GgufTensor* Find(absl::string_view part) const { return file_.FindTensor(absl::StrCat(prefix_, part)); }
  bool Has(absl::string_view part) const { return Find(part) != nullptr; }

  void Add(absl::string_view part, std::vector<uint64_t> dims, int64_t items, std::vector<Destination> parts) {
    const int64_t cols = static_cast<int64_t>(dims.front());
    tensors_.push_back({absl::StrCat(prefix_, part), std::move(dims), items, cols, std::move(parts)});
  }
  void Vector(absl::string_view part, VectorMember to, int64_t size) {
    Add(part, {static_cast<uint64_t>(size)}, 1, {{.vector = to, .rows = size}});
  }
  void OptionalVector(absl::string_view part, VectorMember to, int64_t size) {
    if (Has(part)) Vector(part, to, size);
  }
  void Matrix(absl::string_view part, MatrixMember to, int64_t rows, int64_t cols) {
    Add(part, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)}, 1, {{.matrix = to, .rows = rows}});
  }
  // One matrix an item; `index` of the first.
  void List(absl::string_view part, MatricesMember to, int64_t items, int64_t rows, int64_t cols) {
    Add(part, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows), static_cast<uint64_t>(items)}, items,
        {{.matrices = to, .rows = rows}});
  }

  void Norm(absl::string_view name, VectorMember weight, VectorMember bias) {
    Vector(absl::StrCat(name, ".weight"), weight, spec_.hidden);
    if (spec_.row->norm == NormKind::kLayerBias) Vector(absl::StrCat(name, ".bias"), bias, spec_.hidden);
  }

  void ListNorms() {
    const NormPlace place = spec_.row->norm_place;
    if (place != NormPlace::kAfter) {
      // Falcon's larger models norm the input of attention apart; then the first norm is the FFN's.
      const bool second = spec_.parallel && Has("attn_norm_2.weight");
      Norm(second ? "attn_norm_2" : "attn_norm", &LayerWeights::attn_norm, &LayerWeights::attn_norm_bias);
      if (second) Norm("attn_norm", &LayerWeights::ffn_norm, &LayerWeights::ffn_norm_bias);
      if (!spec_.parallel) Norm(spec_.row->ffn_norm, &LayerWeights::ffn_norm, &LayerWeights::ffn_norm_bias);
    }
    if (place != NormPlace::kBefore) {
      Vector("post_attention_norm.weight", &LayerWeights::attn_post_norm, spec_.hidden);
      Vector("post_ffw_norm.weight", &LayerWeights::ffn_post_norm, spec_.hidden);
    }
  }

  void ListAttention() {
    const int64_t q = int64_t{spec_.heads} * spec_.head_dim, k = int64_t{spec_.kv_heads} * spec_.head_dim;
    const int64_t v = int64_t{spec_.kv_heads} * spec_.value_dim, hidden = spec_.hidden;
    const bool bias = spec_.row->qkv_bias;
    if (Has("attn_qkv.weight")) {
      Add("attn_qkv.weight", {static_cast<uint64_t>(hidden), static_cast<uint64_t>(q + k + v)}, 1,
          {{.matrix = &LayerWeights::q, .rows = q},
           {.matrix = &LayerWeights::k, .rows = k},
           {.matrix = &LayerWeights::v, .rows = v}});
      if (bias || Has("attn_qkv.bias")) {
        Add("attn_qkv.bias", {static_cast<uint64_t>(q + k + v)}, 1,
            {{.vector = &LayerWeights::q_bias, .rows = q},
             {.vector = &LayerWeights::k_bias, .rows = k},
             {.vector = &LayerWeights::v_bias, .rows = v}});
      }
    } else {
      const auto projection = [&](absl::string_view name, MatrixMember matrix, VectorMember to, int64_t rows) {
        Matrix(absl::StrCat(name, ".weight"), matrix, rows, hidden);
        const std::string bias_name = absl::StrCat(name, ".bias");
        if (bias || Has(bias_name)) Vector(bias_name, to, rows);
      };
      projection("attn_q", &LayerWeights::q, &LayerWeights::q_bias, q);
      projection("attn_k", &LayerWeights::k, &LayerWeights::k_bias, k);
      projection("attn_v", &LayerWeights::v, &LayerWeights::v_bias, v);
    }
    ListQkNorm("attn_q_norm.weight", &LayerWeights::q_norm, spec_.heads);
    ListQkNorm("attn_k_norm.weight", &LayerWeights::k_norm, spec_.kv_heads);
    ListOutput(int64_t{spec_.heads} * spec_.value_dim);
  }

  void ListQkNorm(absl::string_view part, VectorMember to, int64_t heads) {
    const QkNorm kind = spec_.row->qk_norm;
    if (kind == QkNorm::kNone || (kind == QkNorm::kHeadOptional && !Has(part))) return;
    if (kind == QkNorm::kRow) return Vector(part, to, heads * spec_.head_dim);
    const GgufTensor* tensor = Find(part);
    if (tensor == nullptr || tensor->dims.size() < 2) return Vector(part, to, spec_.head_dim);
    Add(part, {static_cast<uint64_t>(spec_.head_dim), static_cast<uint64_t>(heads)}, 1,
        {{.vector = to, .rows = heads * spec_.head_dim}});
  }

  void ListCompressedAttention() {
    const int64_t hidden = spec_.hidden, q = int64_t{spec_.heads} * spec_.head_dim, rank = spec_.kv_rank;
    const int64_t unrotated = spec_.head_dim - spec_.rope.dims;
    if (spec_.q_rank > 0) {
      Matrix("attn_q_a.weight", &LayerWeights::q_a, spec_.q_rank, hidden);
      Vector("attn_q_a_norm.weight", &LayerWeights::q_a_norm, spec_.q_rank);
      Matrix("attn_q_b.weight", &LayerWeights::q, q, spec_.q_rank);
    } else {
      Matrix("attn_q.weight", &LayerWeights::q, q, hidden);
    }
    Matrix("attn_kv_a_mqa.weight", &LayerWeights::kv_a, rank + spec_.rope.dims, hidden);
    Vector("attn_kv_a_norm.weight", &LayerWeights::kv_a_norm, rank);
    if (Has("attn_k_b.weight") || !Has("attn_kv_b.weight")) {
      List("attn_k_b.weight", &LayerWeights::k_b, spec_.heads, rank, unrotated);
      List("attn_v_b.weight", &LayerWeights::v_b, spec_.heads, spec_.value_dim, rank);
    } else {
      const int64_t rows = spec_.heads * (unrotated + spec_.value_dim);
      Add("attn_kv_b.weight", {static_cast<uint64_t>(rank), static_cast<uint64_t>(rows)}, spec_.heads,
          {{.matrices = &LayerWeights::k_b, .rows = unrotated, .transposed = true},
           {.matrices = &LayerWeights::v_b, .rows = spec_.value_dim}});
    }
    ListOutput(int64_t{spec_.heads} * spec_.value_dim);
  }

  void ListOutput(int64_t width) {
    Matrix("attn_output.weight", &LayerWeights::output, spec_.hidden, width);
    OptionalVector("attn_output.bias", &LayerWeights::output_bias, spec_.hidden);
  }

  // `suffix` tells the shared experts' tensors from those of a dense layer.
  void ListFfn(absl::string_view suffix, int64_t ffn) {
    const auto name = [&](absl::string_view part, absl::string_view kind) {
      return absl::StrCat("ffn_", part, suffix, ".", kind);
    };
    const int64_t hidden = spec_.hidden;
    if (spec_.row->gated && !Has(name("gate", "weight"))) {
      Add(name("up", "weight"), {static_cast<uint64_t>(hidden), static_cast<uint64_t>(2 * ffn)}, 1,
          {{.matrix = &LayerWeights::gate, .rows = ffn}, {.matrix = &LayerWeights::up, .rows = ffn}});
    } else {
      if (spec_.row->gated) {
        Matrix(name("gate", "weight"), &LayerWeights::gate, ffn, hidden);
        OptionalVector(name("gate", "bias"), &LayerWeights::gate_bias, ffn);
      }
      Matrix(name("up", "weight"), &LayerWeights::up, ffn, hidden);
      OptionalVector(name("up", "bias"), &LayerWeights::up_bias, ffn);
    }
    Matrix(name("down", "weight"), &LayerWeights::down, hidden, ffn);
    OptionalVector(name("down", "bias"), &LayerWeights::down_bias, hidden);
  }

  void ListExperts() {
    const int64_t count = spec_.experts.count, ffn = spec_.experts.ffn, hidden = spec_.hidden;
    Matrix("ffn_gate_inp.weight", &LayerWeights::router, count, hidden);
    OptionalVector("ffn_gate_inp.bias", &LayerWeights::router_bias, count);
    OptionalVector("exp_probs_b.bias", &LayerWeights::selection_bias, count);
    ListExpertMatrices("gate", &LayerWeights::expert_gate, &LayerWeights::expert_gate_bias, ffn, hidden);
    ListExpertMatrices("up", &LayerWeights::expert_up, &LayerWeights::expert_up_bias, ffn, hidden);
    ListExpertMatrices("down", &LayerWeights::expert_down, &LayerWeights::expert_down_bias, hidden, ffn);
    if (spec_.experts.shared_ffn == 0) return;
    OptionalVector("ffn_gate_inp_shexp.weight", &LayerWeights::shared_gate, hidden);
    ListFfn("_shexp", spec_.experts.shared_ffn);
  }

  void ListExpertMatrices(absl::string_view kind, MatricesMember to, VectorMember bias, int64_t rows, int64_t cols) {
    const int64_t count = spec_.experts.count;
    const std::string merged = absl::StrCat("ffn_", kind, "_exps.weight");
    const std::string merged_bias = absl::StrCat("ffn_", kind, "_exps.bias");
    if (Has(merged) || !Has(absl::StrCat("ffn_", kind, ".0.weight"))) {
      List(merged, to, count, rows, cols);
    } else {
      for (int32_t i = 0; i < count; ++i) {  // files of 2023 hold each expert by itself
        Add(absl::StrCat("ffn_", kind, ".", i, ".weight"), {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)},
            1, {{.matrices = to, .rows = rows, .index = i}});
      }
    }
    if (!Has(merged_bias)) return;
    Add(merged_bias, {static_cast<uint64_t>(rows), static_cast<uint64_t>(count)}, 1,
        {{.vector = bias, .rows = rows * count}});
  }

  const ModelSpec& spec_;
  const GgufFile& file_;
  const LayerSpec& layer_;
  const std::string prefix_;
  std::vector<LayerTensor> tensors_;
};

}  // namespace

bool LayerTensor::is_expert() const {
  const Destination& part = parts.front();
  return part.matrices == &LayerWeights::expert_gate || part.matrices == &LayerWeights::expert_up ||
         part.matrices == &LayerWeights::expert_down;
}

std::vector<LayerTensor> LayerTensors(const ModelSpec& spec, const GgufFile& file, int32_t layer) {
  return Lister(spec, file, layer).List();
}

std::vector<std::string> StageTensorNames(const ModelSpec& spec, const GgufFile& file, int32_t first_layer,
                                          int32_t end_layer) {
  const bool last = end_layer == spec.num_layers;
  std::vector<std::string> names;
  if (first_layer == 0 || (last && spec.tied_head)) names.emplace_back(kEmbeddingName);
  if (!spec.rope_factors.empty()) names.push_back(spec.rope_factors);
  for (int32_t layer = first_layer; layer < end_layer; ++layer) {
    for (LayerTensor& tensor : LayerTensors(spec, file, layer)) names.push_back(std::move(tensor.name));
  }
  if (last) names.emplace_back(kOutputNormName);
  if (last && spec.row->norm == NormKind::kLayerBias) names.emplace_back(kOutputNormBiasName);
  if (last && !spec.tied_head) names.emplace_back(kHeadName);
  return names;
}

TensorType PackedType(const Destination& part, TensorType type) {
  if (!part.transposed || type == TensorType::kF32) return type;
  return TensorType::kF16;
}

}  // namespace tandem::engine
