// chatglm, glm4, glm4moe.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/experts.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {

// ChatGLM2-3 and GLM-4 9B (modeling_chatglm.py of their repositories): one matrix and bias for queries, keys and
// values, the first half of each head rotated as neighbours, gate and up in one matrix.
Rows ChatGlm(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = ProjectFused(layer, shape, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    x = x + FusedGatedFeedForward(layer, RmsNorm(x, layer.Weight("ffn_norm"), eps), Silu);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

// GLM-4-0414 (transformers/models/glm4): as above in three matrices, with a second norm on what each half adds.
Rows Glm4(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    const Rows attended = Project(layer, "attn_output", Attend(qkv, shape));
    x = x + RmsNorm(attended, layer.Weight("post_attention_norm"), eps);
    const Rows fed = FusedGatedFeedForward(layer, RmsNorm(x, layer.Weight("ffn_norm"), eps), Silu);
    x = x + RmsNorm(fed, layer.Weight("post_ffw_norm"), eps);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

// GLM-4.5 (2025; transformers/models/glm4_moe): biases on queries, keys and values, optional norms of their heads, half
// of each head rotated as halves; a first layer without experts, then DeepSeek V3's routing with a shared expert. The
// file calls the norm before the feed-forward "post_attention_norm". The last nextn_predict_layers blocks predict
// further tokens and take no part.
Rows Glm4Moe(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  const Routing routing = {.score = Routing::kSigmoid,
                           .used = file.Int("expert_used_count"),
                           .choose_with_bias = true,
                           .groups = file.Int("expert_group_count", 1),
                           .groups_used = file.Int("expert_group_used_count", 1),
                           .normalise = file.Bool("expert_weights_norm", false),
                           .scale = file.Float("expert_weights_scale")};
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers - file.Int("nextn_predict_layers", 0); ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    if (layer.Has("attn_q_norm")) {
      qkv.q = RmsNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
      qkv.k = RmsNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    }
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    const Rows normed = RmsNorm(x, layer.Weight("post_attention_norm"), eps);
    if (i < file.Int("leading_dense_block_count")) {
      x = x + GatedFeedForward(layer, normed, Silu);
    } else {
      x = x + Experts(layer, normed, routing) + GatedFeedForward(layer, normed, Silu, "_shexp");
    }
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
