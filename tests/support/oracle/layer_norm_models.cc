// The models whose norms are LayerNorm with a bias: starcoder2, falcon, stablelm.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

Rows Norm(const Layer& layer, const std::string& name, const Rows& x, double eps) {
  return LayerNorm(x, layer.Weight(name), layer.Bias(name), eps);
}

Rows NormedHead(const ModelFile& file, const Rows& x, double eps) {
  return Head(file, LayerNorm(x, file.Load("output_norm.weight"), file.Load("output_norm.bias"), eps));
}

}  // namespace

// StarCoder 2 (Lozhkov et al. 2024; transformers/models/starcoder2): biases everywhere, a feed-forward without gate,
// GELU by tanh.
Rows StarCoder2(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, Norm(layer, "attn_norm", x, eps));
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    x = x + PlainFeedForward(layer, Norm(layer, "ffn_norm", x, eps), GeluTanh);
  }
  return NormedHead(file, x, eps);
}

// Falcon (Almazrouei et al. 2023, section 3.2; transformers/models/falcon): attention and feed-forward side by side,
// GELU exact. 7B has one norm for both and one key/value head; 40B has a norm for each, attn_norm_2 for the attention
// and attn_norm for the feed-forward. The converter sorts the fused matrix, which interleaves key/value groups, into
// all queries, all keys, all values.
Rows Falcon(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    const Rows normed = Norm(layer, "attn_norm", x, eps);
    const Rows input = layer.Has("attn_norm_2") ? Norm(layer, "attn_norm_2", x, eps) : normed;
    Qkv qkv = ProjectFused(layer, shape, input);
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape)) + PlainFeedForward(layer, normed, GeluErf);
  }
  return NormedHead(file, x, eps);
}

// StableLM 2 (Bellagente et al. 2024; transformers/models/stablelm): part of each head rotated. The 12B model
// normalises each head of queries and keys by weights of its own, without bias, and feeds attention and feed-forward
// the same input (use_parallel_residual); 1.6B has biases on queries, keys and values.
Rows StableLm(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    const Rows normed = Norm(layer, "attn_norm", x, eps);
    Qkv qkv = Project(layer, normed);
    if (layer.Has("attn_q_norm")) {
      qkv.q = LayerNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
      qkv.k = LayerNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    }
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    x = x + GatedFeedForward(layer, layer.Has("ffn_norm") ? Norm(layer, "ffn_norm", x, eps) : normed, Silu);
  }
  return NormedHead(file, x, eps);
}

}  // namespace tandem::testing::oracle
