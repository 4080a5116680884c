// gemma2 and gemma3. The "+ 1" of their norms' weights is already in the file.

#include <cmath>

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

// The block that both share: norms before and after each half, GELU by tanh in the gate.
Rows FinishGemmaBlock(const Layer& layer, const Rows& x, const Rows& attended, double eps) {
  const Rows middle = x + RmsNorm(Project(layer, "attn_output", attended), layer.Weight("post_attention_norm"), eps);
  const Rows fed = GatedFeedForward(layer, RmsNorm(middle, layer.Weight("ffn_norm"), eps), GeluTanh);
  return middle + RmsNorm(fed, layer.Weight("post_ffw_norm"), eps);
}

Rows Softcap(Rows x, double cap) {
  for (double& value : x.values) value = cap * std::tanh(value / cap);
  return x;
}

}  // namespace

// Gemma 2 (2024), table 1 and section 2: window and full attention by turns, beginning with a window; scores and logits
// soft-capped. Queries are scaled by query_pre_attn_scalar^-1/2, which the file does not hold: head width, but
// embedding / heads in the 27B model, which has 46 layers.
Rows Gemma2(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const double scalar = shape.layers == 46 ? static_cast<double>(shape.hidden) / shape.heads : shape.key_dim;
  const Rope rope = ReadRope(file, Rope::kHalves);
  Rows x = std::sqrt(shape.hidden) * Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    const Rows attended = Attend(qkv, shape,
                                 {.scale = 1 / std::sqrt(scalar),
                                  .softcap = file.Float("attn_logit_softcapping"),
                                  .window = i % 2 == 0 ? file.Int("attention.sliding_window") : 0});
    x = FinishGemmaBlock(layer, x, attended, eps);
  }
  const Rows logits = Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
  return Softcap(logits, file.Float("final_logit_softcapping"));
}

// Gemma 3 (2025), section 2: five layers with a window, whose rotary base is 10000 unscaled, then a full one with the
// base and scaling of the file; queries and keys normalised a head at a time instead of soft-capping. The 27B model (62
// layers) scales queries by (embedding / heads)^-1/2.
Rows Gemma3(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const double scalar = shape.layers == 62 ? static_cast<double>(shape.hidden) / shape.heads : shape.key_dim;
  const Rope wide = ReadRope(file, Rope::kHalves);
  const Rope near = PlainRope(shape.key_dim, 10000, Rope::kHalves);
  Rows x = std::sqrt(shape.hidden) * Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const bool full = i % 6 == 5;
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    qkv.q = RmsNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
    qkv.k = RmsNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    Rotate(full ? wide : near, shape, &qkv);
    const int window = full ? 0 : file.Int("attention.sliding_window");
    x = FinishGemmaBlock(layer, x, Attend(qkv, shape, {.scale = 1 / std::sqrt(scalar), .window = window}), eps);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
