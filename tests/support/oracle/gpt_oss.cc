// gpt-oss: the model card (OpenAI 2025) and transformers/models/gpt_oss.

#include <algorithm>

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/experts.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

// The gate is cut above 7, the linear part to -7..7 and moved up by one; the sigmoid is steeper by 1.702.
double ClampedSwiGlu(double gate, double up) {
  gate = std::min(gate, 7.0);
  return gate * Sigmoid(1.702 * gate) * (std::clamp(up, -7.0, 7.0) + 1);
}

}  // namespace

// Biases everywhere, window and full attention by turns beginning with a window, a learned sink a head, and experts
// chosen by their logits. The file calls the norm before the feed-forward "post_attention_norm".
Rows GptOss(const ModelFile& file, Tokens tokens) {
  const Shape shape = ReadShape(file);
  const double eps = file.Float("attention.layer_norm_rms_epsilon");
  const Rope rope = ReadRope(file, Rope::kHalves);
  const Routing routing = {.score = Routing::kSoftmaxOfTheChosen, .used = file.Int("expert_used_count")};
  Rows x = Embed(file, tokens);
  for (int i = 0; i < shape.layers; ++i) {
    const Layer layer(file, i);
    Qkv qkv = Project(layer, RmsNorm(x, layer.Weight("attn_norm"), eps));
    Rotate(rope, shape, &qkv);
    const Tensor sinks = layer.Weight("attn_sinks");
    const int window = i % 2 == 0 ? file.Int("attention.sliding_window") : 0;
    x = x + Project(layer, "attn_output", Attend(qkv, shape, {.window = window, .sinks = &sinks}));
    const Rows normed = RmsNorm(x, layer.Weight("post_attention_norm"), eps);
    x = x + Experts(layer, normed, routing, ClampedSwiGlu);
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), eps));
}

}  // namespace tandem::testing::oracle
