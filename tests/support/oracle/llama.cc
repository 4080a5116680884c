// llama and its close relatives: internlm2, seed_oss, granite, smollm3.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/experts.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {

// Touvron et al. 2023 (LLaMA); Jiang et al. 2024 (Mixtral of Experts: softmax over the two chosen experts, which is the
// softmax over all, normalised). The converter reorders the rows of attn_q and attn_k so that neighbours are pairs.
// InternLM2 (Cai et al. 2024, section 2.2) is the same once the converter has cut its wqkv into three.
Rows Llama(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    const Rows normed = RmsNorm(x, layer.Weight("ffn_norm"), eps);
    if (file.Int("expert_count", 0) > 0) {
      x = x + Experts(layer, normed, {.used = file.Int("expert_used_count"), .normalise = true});
    } else {
      x = x + GatedFeedForward(layer, normed, Silu);
    }
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

// transformers/models/seed_oss: llama with biases on queries, keys and values, heads of their own width and rotary
// pairs of halves. The file calls the norm before the feed-forward "post_attention_norm".
Rows SeedOss(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    x = x + GatedFeedForward(layer, RmsNorm(x, layer.Weight("post_attention_norm"), eps), Silu);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

// transformers/models/granite: llama with four factors: on the embedding, on the attention scores in place of
// 1 / sqrt(head), on what each half of a block adds, and a divisor of the logits.
Rows Granite(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const double residual = file.Float("residual_scale");
  const AttentionOptions attention = {.scale = file.Float("attention.scale")};
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = file.Float("embedding_scale") * Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    x = x + residual * Project(layer, "attn_output", Attend(qkv, shape, attention));
    x = x + residual * GatedFeedForward(layer, RmsNorm(x, layer.Weight("ffn_norm"), eps), Silu);
  }
  return 1 / file.Float("logit_scale") * Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

// transformers/models/smollm3 (no_rope_layer_interval 4; the file does not say it): llama whose every fourth layer has
// no positions (NoPE).
Rows SmolLm3(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    if ((i + 1) % 4 != 0) Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    x = x + GatedFeedForward(layer, RmsNorm(x, layer.Weight("ffn_norm"), eps), Silu);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
