// phi3: Phi-3 technical report (2024) and transformers/models/phi3: llama with queries, keys and values in one matrix
// and gate and up in one. The models' sliding window is left out as the engine that the file format comes from does.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

// LongRoPE (Ding et al. 2024): each frequency is divided by a factor of its own, one set for sequences within the
// original context, one for longer ones; cosines and sines are multiplied by sqrt(1 + ln(s) / ln(original)), which the
// converter writes as attn_factor.
Rope ReadLongRope(const ModelFile& file) {
  Rope rope = ReadRope(file, Rope::kHalves);
  if (!file.HasTensor("rope_factors_long.weight")) return rope;
  const bool beyond = file.Int("context_length") > file.Int("rope.scaling.original_context_length");
  DivideFrequencies(file.Load(beyond ? "rope_factors_long.weight" : "rope_factors_short.weight"), &rope);
  rope.magnitude = file.Float("rope.scaling.attn_factor");
  return rope;
}

}  // namespace

Rows Phi3(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadLongRope(file);
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

}  // namespace tandem::testing::oracle
