// command-r and cohere2. Attention and feed-forward read the same normalised input and are added together; LayerNorm
// without bias; rotary pairs of neighbours; the embedding is the head, its logits multiplied by logit_scale.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {

// transformers/models/cohere. Command R+ normalises queries and keys, each head with its own weights.
Rows CommandR(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    const Rows normed = LayerNorm(x, layer.Weight("attn_norm"), eps);
    Qkv qkv = Project(layer, normed);
    if (layer.Has("attn_q_norm")) {
      qkv.q = LayerNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
      qkv.k = LayerNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    }
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape)) + GatedFeedForward(layer, normed, Silu);
  }
  return file.Float("logit_scale") * Head(file, LayerNorm(x, file.Load("output_norm.weight"), eps));
}

// transformers/models/cohere2 (Command R7B, Command A): three layers with a window and rotary positions, then one that
// sees everything and has no positions.
Rows Cohere2(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_epsilon");
  const Rope rope = ReadRope(file, Rope::kNeighbours);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const bool full = i % 4 == 3;
    const Layer layer(file, i);
    const Rows normed = LayerNorm(x, layer.Weight("attn_norm"), eps);
    Qkv qkv = Project(layer, normed);
    if (!full) Rotate(rope, shape, &qkv);
    const Rows attended = Attend(qkv, shape, {.window = full ? 0 : file.Int("attention.sliding_window")});
    x = x + Project(layer, "attn_output", attended) + GatedFeedForward(layer, normed, Silu);
  }
  return file.Float("logit_scale") * Head(file, LayerNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
