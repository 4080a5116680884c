// olmo2: OLMo 2 (2024, section 3.2; transformers/models/olmo2) and OLMo 3 (2025; transformers/models/olmo3), which
// files give the same name.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {

// No norm before a half of a block, one on what it adds; queries and keys are normalised over all heads together. OLMo
// 3 adds a window to three of four layers; the scaling of positions is for the fourth alone.
Rows Olmo2(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const int window = file.Int("attention.sliding_window", 0);
  const Rope scaled = ReadRope(file, Rope::kHalves);
  const Rope plain = PlainRope(shape.key_dim, file.Float("rope.freq_base", 10000), Rope::kHalves);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const bool near = window > 0 && i % 4 != 3;
    const Layer layer(file, i);
    Qkv qkv = Project(layer, x);
    qkv.q = RmsNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
    qkv.k = RmsNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    Rotate(near ? plain : scaled, shape, &qkv);
    const Rows attended = Attend(qkv, shape, {.window = near ? window : 0});
    x = x + RmsNorm(Project(layer, "attn_output", attended), layer.Weight("post_attention_norm"), eps);
    x = x + RmsNorm(GatedFeedForward(layer, x, Silu), layer.Weight("post_ffw_norm"), eps);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
