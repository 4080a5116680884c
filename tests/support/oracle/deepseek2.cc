// deepseek2: DeepSeek-V2 (2024, section 2), V3 (2024, section 2.1), R1, Kimi K2; modeling_deepseek.py of their
// repositories.

#include <algorithm>
#include <cmath>

#include "tests/support/oracle/attention.h"
#include "tests/support/oracle/experts.h"
#include "tests/support/oracle/oracle.h"

namespace tandem::testing::oracle {
namespace {

struct Mla {
  int heads, rank, plain_dim, rope_dim, value_dim;
  Rope rope;
  double scale;
  double eps;
};

Mla ReadMla(const ModelFile& file) {
  const Shape shape = ReadShape(file);
  const int key_dim = file.Int("attention.key_length_mla", shape.key_dim);
  const int rope_dim = file.Int("rope.dimension_count");
  Mla mla{.heads = shape.heads,
          .rank = file.Int("attention.kv_lora_rank"),
          .plain_dim = key_dim - rope_dim,
          .rope_dim = rope_dim,
          .value_dim = file.Int("attention.value_length_mla", shape.value_dim),
          .rope = ReadRope(file, Rope::kNeighbours),
          .scale = 1 / std::sqrt(key_dim),
          .eps = file.Float("attention.layer_norm_rms_epsilon")};
  if (file.String("rope.scaling.type", "none") == "yarn") {
    // Instead of stretching the rotated part (mscale / mscale_all_dim, 1 in all models), YaRN's factor goes into the
    // scale of the scores, squared. The file's multiplier is 0.1 * mscale_all_dim.
    const double log_factor = std::log(file.Float("rope.scaling.factor"));
    mla.rope.magnitude = 1;
    mla.scale *= std::pow(1 + file.Float("rope.scaling.yarn_log_multiplier") * log_factor, 2);
  }
  return mla;
}

// Multi-head latent attention: keys and values of all heads come from one vector of `rank` elements a token, and each
// key has a rotated part that all heads share. [tokens, heads * value_dim]
Rows LatentAttention(const Layer& layer, const Mla& mla, const Rows& x) {
  const int key_dim = mla.plain_dim + mla.rope_dim;
  Rows queries =
      layer.Has("attn_q")
          ? Project(layer, "attn_q", x)
          : Project(layer, "attn_q_b", RmsNorm(Project(layer, "attn_q_a", x), layer.Weight("attn_q_a_norm"), mla.eps));
  Rotate(mla.rope, key_dim, &queries, mla.plain_dim);
  const Rows both = Project(layer, "attn_kv_a_mqa", x);
  const Rows latent = RmsNorm(Columns(both, 0, mla.rank), layer.Weight("attn_kv_a_norm"), mla.eps);
  Rows shared_key = Columns(both, mla.rank, mla.rope_dim);
  Rotate(mla.rope, mla.rope_dim, &shared_key);

  Rows keys(x.count(), mla.heads * key_dim), values(x.count(), mla.heads * mla.value_dim);
  for (int head = 0; head < mla.heads; ++head) {
    Rows key(x.count(), mla.plain_dim), value(x.count(), mla.value_dim);
    if (layer.Has("attn_kv_b")) {  // a head's rows: first those of its keys, then those of its values
      const Rows kv = Project(layer, "attn_kv_b", latent);
      const int begin = head * (mla.plain_dim + mla.value_dim);
      key = Columns(kv, begin, mla.plain_dim);
      value = Columns(kv, begin + mla.plain_dim, mla.value_dim);
    } else {  // a slice a head; the keys' transposed, [rank, plain_dim]
      const Tensor key_up = layer.Weight("attn_k_b");
      for (size_t t = 0; t < x.count(); ++t) {
        for (int r = 0; r < mla.rank; ++r) {
          for (int i = 0; i < mla.plain_dim; ++i) key.row(t)[i] += key_up.row(r, head)[i] * latent.row(t)[r];
        }
      }
      value = Linear(layer.Weight("attn_v_b"), latent, head);
    }
    for (size_t t = 0; t < x.count(); ++t) {
      double* whole = std::copy_n(key.row(t), mla.plain_dim, keys.row(t) + head * key_dim);
      std::copy_n(shared_key.row(t), mla.rope_dim, whole);
      std::copy_n(value.row(t), mla.value_dim, values.row(t) + head * mla.value_dim);
    }
  }
  const Shape shape = {.heads = mla.heads, .kv_heads = mla.heads, .key_dim = key_dim, .value_dim = mla.value_dim};
  return Attend({queries, keys, values}, shape, {.scale = mla.scale});
}

Routing ReadRouting(const ModelFile& file) {
  const bool sigmoid = file.Int("expert_gating_func", 1) == 2;
  return {.score = sigmoid ? Routing::kSigmoid : Routing::kSoftmax,
          .used = file.Int("expert_used_count"),
          .choose_with_bias = sigmoid,
          .groups = file.Int("expert_group_count", 1),
          .groups_used = file.Int("expert_group_used_count", 1),
          .best_of_group = sigmoid ? 2 : 1,  // V3's "noaux_tc", V2's "group_limited_greedy"
          .normalise = file.Bool("expert_weights_norm", false),
          .scale = file.Float("expert_weights_scale", 1)};
}

}  // namespace

Rows DeepSeek2(const ModelFile& file, Tokens tokens) {
  const Mla mla = ReadMla(file);
  const Routing routing = ReadRouting(file);
  Rows x = Embed(file, tokens);
  for (int i = 0; i < file.Int("block_count"); ++i) {
    const Layer layer(file, i);
    const Rows attended = LatentAttention(layer, mla, RmsNorm(x, layer.Weight("attn_norm"), mla.eps));
    x = x + Project(layer, "attn_output", attended);
    const Rows normed = RmsNorm(x, layer.Weight("ffn_norm"), mla.eps);
    if (i < file.Int("leading_dense_block_count")) {
      x = x + GatedFeedForward(layer, normed, Silu);
    } else {
      x = x + Experts(layer, normed, routing) + GatedFeedForward(layer, normed, Silu, "_shexp");
    }
  }
  return Head(file, RmsNorm(x, file.Load("output_norm.weight"), mla.eps));
}

}  // namespace tandem::testing::oracle
