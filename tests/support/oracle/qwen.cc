// qwen2, qwen2moe, qwen3, qwen3moe.

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/experts.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

// transformers/models/qwen2_moe: the shared expert's output is weighed by the sigmoid of a gate of its own; the weights
// of the routed ones are not normalised (norm_topk_prob false).
Rows Qwen2MoeFeedForward(const ModelFile& file, const Layer& layer, const Rows& x) {
  const Rows shared = GatedFeedForward(layer, x, Silu, "_shexp");
  const Rows gate = Apply(Sigmoid, Project(layer, "ffn_gate_inp_shexp", x));  // [tokens, 1]
  Rows sum = Experts(layer, x, {.used = file.Int("expert_used_count")});
  for (size_t t = 0; t < x.count(); ++t) {
    for (size_t i = 0; i < x.width; ++i) sum.row(t)[i] += gate.row(t)[0] * shared.row(t)[i];
  }
  return sum;
}

}  // namespace

// Qwen2 technical report (2024): llama with biases on queries, keys and values. Qwen3 (2025): no biases, an RMS norm of
// each head of queries and keys before the rotation; its mixture normalises the weights of the chosen experts.
Rows Qwen(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  const std::string& name = file.architecture();
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    if (name == "qwen3" || name == "qwen3moe") {
      qkv.q = RmsNorm(qkv.q, layer.Weight("attn_q_norm"), eps);
      qkv.k = RmsNorm(qkv.k, layer.Weight("attn_k_norm"), eps);
    }
    Rotate(rope, shape, &qkv);
    x = x + Project(layer, "attn_output", Attend(qkv, shape));
    const Rows normed = RmsNorm(x, layer.Weight("ffn_norm"), eps);
    if (name == "qwen2moe") {
      x = x + Qwen2MoeFeedForward(file, layer, normed);
    } else if (name == "qwen3moe") {
      x = x + Experts(layer, normed, {.used = file.Int("expert_used_count"), .normalise = true});
    } else {
      x = x + GatedFeedForward(layer, normed, Silu);
    }
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
