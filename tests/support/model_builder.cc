#include "tests/support/model_builder.h"

#include <cmath>
#include <utility>

namespace tandem::testing {
namespace {

std::vector<uint64_t> Dims(int fastest, int rows, int slices = 0) {
  std::vector<uint64_t> dims = {static_cast<uint64_t>(fastest)};
  if (rows > 0) dims.push_back(rows);
  if (slices > 0) dims.push_back(slices);
  return dims;
}

size_t Elements(const std::vector<uint64_t>& dims) {
  size_t count = 1;
  for (uint64_t dim : dims) count *= dim;
  return count;
}

}  // namespace

ModelBuilder::ModelBuilder(const std::string& architecture, const BuilderShape& shape, uint64_t seed)
    : architecture_(architecture), shape_(shape), random_(seed) {
  model_.metadata["general.architecture"] = architecture;
  model_.metadata["general.name"] = "tiny " + architecture;
  SetCount("context_length", shape.context);
  SetCount("embedding_length", shape.hidden);
  SetCount("block_count", shape.layers);
  SetCount("feed_forward_length", shape.ffn);
  SetCount("attention.head_count", shape.heads);
}

ModelBuilder& ModelBuilder::Set(const std::string& name, TinyModel::Value value) {
  model_.metadata[architecture_ + "." + name] = std::move(value);
  return *this;
}

void ModelBuilder::Matrix(const std::string& name, int rows, int cols, int slices) {
  const std::vector<uint64_t> dims = Dims(cols, rows, slices);
  std::vector<float> values(Elements(dims));
  const float scale = 1.7f / std::sqrt(static_cast<float>(cols));  // variance 1 in, variance 1 out
  for (float& value : values) value = random_.Uniform() * scale;
  model_.SetTensor(name + ".weight", engine::TensorType::kF32, dims, values);
}

void ModelBuilder::Norm(const std::string& name, int width, int rows) {
  const std::vector<uint64_t> dims = Dims(width, rows);
  std::vector<float> values(Elements(dims));
  for (float& value : values) value = 1.0f + 0.25f * random_.Uniform();
  model_.SetTensor(name + ".weight", engine::TensorType::kF32, dims, values);
}

void ModelBuilder::Bias(const std::string& name, int width, int rows) {
  const std::vector<uint64_t> dims = Dims(width, rows);
  std::vector<float> values(Elements(dims));
  for (float& value : values) value = 0.3f * random_.Uniform();
  model_.SetTensor(name + ".bias", engine::TensorType::kF32, dims, values);
}

void ModelBuilder::Vector(const std::string& name, const std::vector<float>& values) {
  model_.SetTensor(name, engine::TensorType::kF32, {values.size()}, values);
}

void ModelBuilder::Ends(bool tied, bool norm_bias) {
  Matrix("token_embd", shape_.vocab, shape_.hidden);
  Norm("output_norm", shape_.hidden);
  if (norm_bias) Bias("output_norm", shape_.hidden);
  if (!tied) Matrix("output", shape_.vocab, shape_.hidden);
}

void ModelBuilder::Attention(int layer, bool bias, bool output_bias) {
  const int q = shape_.heads * shape_.head_dim, kv = shape_.kv_heads * shape_.head_dim;
  for (const auto& [name, rows] : {std::pair("attn_q", q), {"attn_k", kv}, {"attn_v", kv}}) {
    Matrix(Name(layer, name), rows, shape_.hidden);
    if (bias) Bias(Name(layer, name), rows);
  }
  Matrix(Name(layer, "attn_output"), shape_.hidden, q);
  if (output_bias) Bias(Name(layer, "attn_output"), shape_.hidden);
}

void ModelBuilder::FusedAttention(int layer, bool bias) {
  const int rows = (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim;
  Matrix(Name(layer, "attn_qkv"), rows, shape_.hidden);
  if (bias) Bias(Name(layer, "attn_qkv"), rows);
  Matrix(Name(layer, "attn_output"), shape_.hidden, shape_.heads * shape_.head_dim);
}

void ModelBuilder::GatedFfn(int layer, int width, const std::string& suffix) {
  Matrix(Name(layer, "ffn_gate" + suffix), width, shape_.hidden);
  Matrix(Name(layer, "ffn_up" + suffix), width, shape_.hidden);
  Matrix(Name(layer, "ffn_down" + suffix), shape_.hidden, width);
}

void ModelBuilder::FusedFfn(int layer) {
  Matrix(Name(layer, "ffn_up"), 2 * shape_.ffn, shape_.hidden);
  Matrix(Name(layer, "ffn_down"), shape_.hidden, shape_.ffn);
}

void ModelBuilder::PlainFfn(int layer, bool bias) {
  Matrix(Name(layer, "ffn_up"), shape_.ffn, shape_.hidden);
  Matrix(Name(layer, "ffn_down"), shape_.hidden, shape_.ffn);
  if (!bias) return;
  Bias(Name(layer, "ffn_up"), shape_.ffn);
  Bias(Name(layer, "ffn_down"), shape_.hidden);
}

void ModelBuilder::Experts(int layer, int count, int width) {
  Matrix(Name(layer, "ffn_gate_inp"), count, shape_.hidden);
  Matrix(Name(layer, "ffn_gate_exps"), width, shape_.hidden, count);
  Matrix(Name(layer, "ffn_up_exps"), width, shape_.hidden, count);
  Matrix(Name(layer, "ffn_down_exps"), shape_.hidden, width, count);
}

}  // namespace tandem::testing
