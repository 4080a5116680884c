#include "tests/support/architecture_models.h"
#include "tests/support/model_builder.h"

namespace tandem::testing {
namespace {

std::string At(int layer, const std::string& name) { return ModelBuilder::Name(layer, name); }

TinyModel Qwen2Moe(uint64_t seed) {
  constexpr int kExpertWidth = 32, kSharedWidth = 64;
  ModelBuilder b("qwen2moe", {.kv_heads = 4}, seed);
  b.SetCount("attention.head_count_kv", 4).Set("attention.layer_norm_rms_epsilon", 1e-6f);
  b.Set("rope.freq_base", 1000000.0f).SetCount("expert_count", 8).SetCount("expert_used_count", 3);
  b.SetCount("expert_feed_forward_length", kExpertWidth).SetCount("expert_shared_feed_forward_length", kSharedWidth);
  b.Ends(false);
  for (int i = 0; i < b.shape().layers; ++i) {
    b.Norm(At(i, "attn_norm"), b.shape().hidden);
    b.Attention(i, true);
    b.Norm(At(i, "ffn_norm"), b.shape().hidden);
    b.Experts(i, 8, kExpertWidth);
    b.Matrix(At(i, "ffn_gate_inp_shexp"), 0, b.shape().hidden);
    b.GatedFfn(i, kSharedWidth, "_shexp");
  }
  return b.Take();
}

// The last of four blocks predicts further tokens and must not run.
TinyModel Glm4Moe(uint64_t seed, bool head_norms) {
  constexpr int kExpertWidth = 32;
  ModelBuilder b("glm4moe", {.layers = 4, .head_dim = 32}, seed);
  b.SetCount("attention.key_length", 32).SetCount("attention.value_length", 32).SetCount("attention.head_count_kv", 2);
  b.Set("attention.layer_norm_rms_epsilon", 1e-5f)
      .Set("rope.freq_base", 1000000.0f)
      .SetCount("rope.dimension_count", 16);
  b.SetCount("expert_count", 8).SetCount("expert_used_count", 3).SetCount("expert_feed_forward_length", kExpertWidth);
  b.SetCount("expert_shared_count", 1).SetCount("leading_dense_block_count", 1).SetCount("expert_gating_func", 2);
  b.Set("expert_weights_scale", 1.5f).Set("expert_weights_norm", true).SetCount("nextn_predict_layers", 1);
  b.SetCount("expert_group_count", 1).SetCount("expert_group_used_count", 1);
  b.Ends(false);
  for (int i = 0; i < 4; ++i) {
    b.Norm(At(i, "attn_norm"), b.shape().hidden);
    b.Attention(i, true);
    if (head_norms) {
      b.Norm(At(i, "attn_q_norm"), 32);
      b.Norm(At(i, "attn_k_norm"), 32);
    }
    b.Norm(At(i, "post_attention_norm"), b.shape().hidden);
    if (i == 0) {
      b.GatedFfn(i, b.shape().ffn);
    } else {
      b.Experts(i, 8, kExpertWidth);
      b.Bias(At(i, "exp_probs_b"), 8);
      b.GatedFfn(i, kExpertWidth, "_shexp");
    }
  }
  b.Matrix(At(3, "nextn.eh_proj"), b.shape().hidden, 2 * b.shape().hidden);
  b.Norm(At(3, "nextn.enorm"), b.shape().hidden);
  b.Norm(At(3, "nextn.hnorm"), b.shape().hidden);
  b.Norm(At(3, "nextn.shared_head_norm"), b.shape().hidden);
  return b.Take();
}
TinyModel Glm4MoeAir(uint64_t seed) { return Glm4Moe(seed, false); }
TinyModel Glm4MoeLarge(uint64_t seed) { return Glm4Moe(seed, true); }

// What differs between the models of deepseek2.
struct DeepSeekVariant {
  int query_rank = 0;         // 0: one matrix for the queries
  bool split = false;         // attn_k_b and attn_v_b; else attn_kv_b, as older files have it
  float yarn_multiplier = 0;  // 0: no scaling of positions
  bool sigmoid = false;       // with bias and normalised weights
  int groups = 1, groups_used = 1;
  float scale = 1;
};

void SetDeepSeek(const DeepSeekVariant& variant, int rank, int plain, int rope, int value, ModelBuilder* b) {
  if (variant.query_rank > 0) b->SetCount("attention.q_lora_rank", variant.query_rank);
  b->SetCount("attention.kv_lora_rank", rank).Set("attention.layer_norm_rms_epsilon", 1e-6f);
  if (variant.split) {
    b->SetCount("attention.head_count_kv", 1);
    b->SetCount("attention.key_length", rank + rope).SetCount("attention.value_length", rank);
    b->SetCount("attention.key_length_mla", plain + rope).SetCount("attention.value_length_mla", value);
  } else {
    b->SetCount("attention.head_count_kv", b->shape().heads);
    b->SetCount("attention.key_length", plain + rope).SetCount("attention.value_length", value);
  }
  b->SetCount("rope.dimension_count", rope).Set("rope.freq_base", 10000.0f);
  if (variant.yarn_multiplier > 0) {
    b->Set("rope.scaling.type", "yarn").Set("rope.scaling.factor", 40.0f);
    b->SetCount("rope.scaling.original_context_length", 32);
    b->Set("rope.scaling.yarn_log_multiplier", variant.yarn_multiplier);
  }
  b->SetCount("leading_dense_block_count", 1).SetCount("expert_count", 16).SetCount("expert_used_count", 4);
  b->SetCount("expert_shared_count", 2).SetCount("expert_feed_forward_length", 32);
  b->Set("expert_weights_scale", variant.scale);
  if (variant.sigmoid) b->SetCount("expert_gating_func", 2).Set("expert_weights_norm", true);
  if (variant.groups > 1) {
    b->SetCount("expert_group_count", variant.groups).SetCount("expert_group_used_count", variant.groups_used);
  }
}

TinyModel DeepSeek(uint64_t seed, const DeepSeekVariant& variant) {
  constexpr int kRank = 32, kPlain = 16, kRope = 16, kValue = 24, kWidth = 32;
  ModelBuilder b("deepseek2", {}, seed);
  SetDeepSeek(variant, kRank, kPlain, kRope, kValue, &b);
  const int hidden = b.shape().hidden, heads = b.shape().heads;
  b.Ends(false);
  for (int i = 0; i < b.shape().layers; ++i) {
    b.Norm(At(i, "attn_norm"), hidden);
    if (variant.query_rank > 0) {
      b.Matrix(At(i, "attn_q_a"), variant.query_rank, hidden);
      b.Norm(At(i, "attn_q_a_norm"), variant.query_rank);
      b.Matrix(At(i, "attn_q_b"), heads * (kPlain + kRope), variant.query_rank);
    } else {
      b.Matrix(At(i, "attn_q"), heads * (kPlain + kRope), hidden);
    }
    b.Matrix(At(i, "attn_kv_a_mqa"), kRank + kRope, hidden);
    b.Norm(At(i, "attn_kv_a_norm"), kRank);
    if (variant.split) {
      b.Matrix(At(i, "attn_k_b"), kRank, kPlain, heads);
      b.Matrix(At(i, "attn_v_b"), kValue, kRank, heads);
    } else {
      b.Matrix(At(i, "attn_kv_b"), heads * (kPlain + kValue), kRank);
    }
    b.Matrix(At(i, "attn_output"), hidden, heads * kValue);
    b.Norm(At(i, "ffn_norm"), hidden);
    if (i == 0) {
      b.GatedFfn(i, b.shape().ffn);
    } else {
      b.Experts(i, 16, kWidth);
      if (variant.sigmoid) b.Bias(At(i, "exp_probs_b"), 16);
      b.GatedFfn(i, 2 * kWidth, "_shexp");
    }
  }
  return b.Take();
}

TinyModel DeepSeekV2Lite(uint64_t seed) { return DeepSeek(seed, {.yarn_multiplier = 0.0707f}); }
TinyModel DeepSeekV2LiteSplit(uint64_t seed) { return DeepSeek(seed, {.split = true, .yarn_multiplier = 0.0707f}); }
TinyModel DeepSeekV2(uint64_t seed) {
  return DeepSeek(seed, {.query_rank = 48, .yarn_multiplier = 0.0707f, .groups = 4, .groups_used = 2, .scale = 2});
}
TinyModel DeepSeekV3(uint64_t seed) {
  return DeepSeek(seed, {.query_rank = 48,
                         .split = true,
                         .yarn_multiplier = 0.1f,
                         .sigmoid = true,
                         .groups = 4,
                         .groups_used = 2,
                         .scale = 2.5f});
}
TinyModel DeepSeekV3Unsplit(uint64_t seed) {
  return DeepSeek(
      seed, {.query_rank = 48, .yarn_multiplier = 0.1f, .sigmoid = true, .groups = 8, .groups_used = 3, .scale = 2.5f});
}
TinyModel KimiK2(uint64_t seed) {
  return DeepSeek(seed, {.query_rank = 48, .split = true, .sigmoid = true, .scale = 2.827f});
}

}  // namespace

std::vector<ArchitectureModel> ExpertArchitectureModels() {
  return {{"qwen2moe", Qwen2Moe},
          {"glm4moe", Glm4MoeAir},
          {"glm4moe_head_norms", Glm4MoeLarge},
          {"deepseek2_v2_lite", DeepSeekV2Lite},
          {"deepseek2_v2_lite_split", DeepSeekV2LiteSplit},
          {"deepseek2_v2", DeepSeekV2},
          {"deepseek2_v3", DeepSeekV3, 2},
          {"deepseek2_v3_unsplit", DeepSeekV3Unsplit},
          {"deepseek2_kimi_k2", KimiK2}};
}

}  // namespace tandem::testing
