#include <cmath>

#include "tests/support/architecture_models.h"
#include "tests/support/model_builder.h"

namespace tandem::testing {
namespace {

constexpr char kRmsEpsilon[] = "attention.layer_norm_rms_epsilon";
constexpr char kEpsilon[] = "attention.layer_norm_epsilon";
constexpr char kKvHeads[] = "attention.head_count_kv";
constexpr char kRopeBase[] = "rope.freq_base";
constexpr char kRopeDims[] = "rope.dimension_count";
constexpr char kWindow[] = "attention.sliding_window";

std::string At(int layer, const std::string& name) { return ModelBuilder::Name(layer, name); }

void SetHeadDims(ModelBuilder* b) {
  b->SetCount("attention.key_length", b->shape().head_dim).SetCount("attention.value_length", b->shape().head_dim);
}

// Norms before attention and feed-forward, a gated feed-forward: llama, internlm2, granite, smollm3, seed_oss.
void FillLlamaLike(ModelBuilder* b, bool tied, bool bias, bool output_bias, const std::string& ffn_norm = "ffn_norm") {
  b->Ends(tied);
  for (int i = 0; i < b->shape().layers; ++i) {
    b->Norm(At(i, "attn_norm"), b->shape().hidden);
    b->Attention(i, bias, output_bias);
    b->Norm(At(i, ffn_norm), b->shape().hidden);
    b->GatedFfn(i, b->shape().ffn);
  }
}

TinyModel LlamaWithBiases(uint64_t seed) {
  ModelBuilder b("llama", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-5f).SetCount(kRopeDims, 16).Set(kRopeBase, 10000.0f);
  FillLlamaLike(&b, false, true, true);
  return b.Take();
}

TinyModel InternLm2(uint64_t seed) {
  ModelBuilder b("internlm2", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-5f).Set(kRopeBase, 1000000.0f);
  FillLlamaLike(&b, false, false, false);
  return b.Take();
}

TinyModel SeedOss(uint64_t seed) {
  ModelBuilder b("seed_oss", {.head_dim = 32}, seed);
  SetHeadDims(&b);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-6f).Set(kRopeBase, 10000000.0f);
  FillLlamaLike(&b, false, true, false, "post_attention_norm");
  return b.Take();
}

TinyModel Granite(uint64_t seed) {
  ModelBuilder b("granite", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-5f).SetCount(kRopeDims, 16).Set(kRopeBase, 10000.0f);
  b.Set("attention.scale", 0.11f).Set("embedding_scale", 1.8f).Set("residual_scale", 0.7f).Set("logit_scale", 3.0f);
  FillLlamaLike(&b, true, false, false);
  return b.Take();
}

TinyModel SmolLm3(uint64_t seed) {
  ModelBuilder b("smollm3", {.layers = 6}, seed);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-6f).SetCount(kRopeDims, 16).Set(kRopeBase, 5000000.0f);
  FillLlamaLike(&b, true, false, false);
  return b.Take();
}

// Phi-4-mini: part of each head rotated, LongRoPE factors, tied.
TinyModel Phi3LongRope(uint64_t seed, int context, bool name_the_scaling) {
  ModelBuilder b("phi3", {.head_dim = 32, .context = context}, seed);
  constexpr int kOriginal = 64, kRotated = 24;
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-5f).SetCount(kRopeDims, kRotated).Set(kRopeBase, 10000.0f);
  SetHeadDims(&b);
  b.SetCount("rope.scaling.original_context_length", kOriginal).SetCount(kWindow, 262144);
  const double stretch = static_cast<double>(context) / kOriginal;
  b.Set("rope.scaling.attn_factor",
        static_cast<float>(stretch > 1 ? std::sqrt(1 + std::log(stretch) / std::log(kOriginal)) : 1.0));
  if (name_the_scaling) b.Set("rope.scaling.type", "longrope");
  std::vector<float> near, far;
  for (int i = 0; i < kRotated / 2; ++i) {
    near.push_back(1.0f + 0.05f * static_cast<float>(i));
    far.push_back(1.2f + 0.6f * static_cast<float>(i));
  }
  b.Vector("rope_factors_short.weight", near);
  b.Vector("rope_factors_long.weight", far);
  b.Ends(true);
  for (int i = 0; i < b.shape().layers; ++i) {
    b.Norm(At(i, "attn_norm"), b.shape().hidden);
    b.FusedAttention(i);
    b.Norm(At(i, "ffn_norm"), b.shape().hidden);
    b.FusedFfn(i);
  }
  return b.Take();
}
TinyModel Phi3Within(uint64_t seed) { return Phi3LongRope(seed, 64, false); }
TinyModel Phi3Beyond(uint64_t seed) { return Phi3LongRope(seed, 256, true); }

void FillGemma(ModelBuilder* b, bool head_norms) {
  b->Ends(true);
  for (int i = 0; i < b->shape().layers; ++i) {
    for (const char* norm : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"}) {
      b->Norm(At(i, norm), b->shape().hidden);
    }
    b->Attention(i);
    if (head_norms) {
      b->Norm(At(i, "attn_q_norm"), b->shape().head_dim);
      b->Norm(At(i, "attn_k_norm"), b->shape().head_dim);
    }
    b->GatedFfn(i, b->shape().ffn);
  }
}

// Narrow, for models of many layers; embedding / heads is not the head width.
BuilderShape Deep(int layers) {
  return {.layers = layers, .hidden = 32, .ffn = 32, .heads = 2, .kv_heads = 1, .head_dim = 32};
}

// 46 layers make it the 27B model, whose query scale is another.
TinyModel Gemma2Of27B(uint64_t seed) {
  ModelBuilder b("gemma2", Deep(46), seed);
  SetHeadDims(&b);
  b.SetCount(kKvHeads, 1).Set(kRmsEpsilon, 1e-6f).SetCount(kWindow, 12);
  b.Set("attn_logit_softcapping", 50.0f).Set("final_logit_softcapping", 30.0f);
  FillGemma(&b, false);
  return b.Take();
}

TinyModel Gemma3(uint64_t seed, int layers) {
  ModelBuilder b("gemma3", Deep(layers), seed);
  SetHeadDims(&b);
  b.SetCount(kKvHeads, 1).Set(kRmsEpsilon, 1e-6f).SetCount(kWindow, 12).Set(kRopeBase, 1000000.0f);
  b.Set("rope.scaling.type", "linear").Set("rope.scaling.factor", 8.0f);
  FillGemma(&b, true);
  return b.Take();
}
TinyModel Gemma3TwoPeriods(uint64_t seed) { return Gemma3(seed, 13); }
TinyModel Gemma3Of27B(uint64_t seed) { return Gemma3(seed, 62); }

// One norm feeds attention and feed-forward.
void FillCohere(ModelBuilder* b, bool head_norms) {
  b->Ends(true);
  for (int i = 0; i < b->shape().layers; ++i) {
    b->Norm(At(i, "attn_norm"), b->shape().hidden);
    b->Attention(i);
    if (head_norms) {
      b->Norm(At(i, "attn_q_norm"), b->shape().head_dim, b->shape().heads);
      b->Norm(At(i, "attn_k_norm"), b->shape().head_dim, b->shape().kv_heads);
    }
    b->GatedFfn(i, b->shape().ffn);
  }
}

TinyModel CommandR(uint64_t seed, bool head_norms) {
  ModelBuilder b("command-r", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kEpsilon, 1e-5f).Set(kRopeBase, 8000000.0f).Set("logit_scale", 0.0625f);
  b.Set("rope.scaling.type", "none");
  FillCohere(&b, head_norms);
  return b.Take();
}
TinyModel CommandR35B(uint64_t seed) { return CommandR(seed, false); }
TinyModel CommandRPlus(uint64_t seed) { return CommandR(seed, true); }

TinyModel Cohere2(uint64_t seed) {
  ModelBuilder b("cohere2", {.layers = 5}, seed);
  SetHeadDims(&b);
  b.SetCount(kKvHeads, 2).Set(kEpsilon, 1e-5f).Set(kRopeBase, 50000.0f).Set("logit_scale", 0.25f);
  b.SetCount(kRopeDims, 16).Set("rope.scaling.type", "none").SetCount(kWindow, 12);
  FillCohere(&b, false);
  return b.Take();
}

void FillOlmo2(ModelBuilder* b) {
  b->Ends(false);
  for (int i = 0; i < b->shape().layers; ++i) {
    b->Attention(i);
    b->Norm(At(i, "attn_q_norm"), b->shape().heads * b->shape().head_dim);
    b->Norm(At(i, "attn_k_norm"), b->shape().kv_heads * b->shape().head_dim);
    b->Norm(At(i, "post_attention_norm"), b->shape().hidden);
    b->GatedFfn(i, b->shape().ffn);
    b->Norm(At(i, "post_ffw_norm"), b->shape().hidden);
  }
}

TinyModel Olmo2(uint64_t seed) {
  ModelBuilder b("olmo2", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kRmsEpsilon, 1e-6f).Set(kRopeBase, 500000.0f);
  FillOlmo2(&b);
  return b.Take();
}

TinyModel Olmo3(uint64_t seed) {
  ModelBuilder b("olmo2", {.layers = 5, .kv_heads = 4}, seed);
  b.SetCount(kKvHeads, 4).Set(kRmsEpsilon, 1e-6f).Set(kRopeBase, 500000.0f).SetCount(kWindow, 12);
  b.Set("rope.scaling.type", "yarn").Set("rope.scaling.factor", 8.0f);
  b.SetCount("rope.scaling.original_context_length", 16);
  FillOlmo2(&b);
  return b.Take();
}

void LayerNorm(ModelBuilder* b, int layer, const std::string& name) {
  b->Norm(At(layer, name), b->shape().hidden);
  b->Bias(At(layer, name), b->shape().hidden);
}

TinyModel StarCoder2(uint64_t seed) {
  ModelBuilder b("starcoder2", {}, seed);
  b.SetCount(kKvHeads, 2).Set(kEpsilon, 1e-5f).Set(kRopeBase, 100000.0f);
  b.Ends(true, true);
  for (int i = 0; i < b.shape().layers; ++i) {
    LayerNorm(&b, i, "attn_norm");
    b.Attention(i, true, true);
    LayerNorm(&b, i, "ffn_norm");
    b.PlainFfn(i, true);
  }
  return b.Take();
}

// Files of Falcon give neither rotary base nor head widths.
TinyModel Falcon(uint64_t seed, int kv_heads, bool two_norms) {
  ModelBuilder b("falcon", {.ffn = 256, .kv_heads = kv_heads}, seed);
  b.Set("tensor_data_layout", "jploski").SetCount(kKvHeads, kv_heads).Set(kEpsilon, 1e-5f);
  b.Ends(false, true);
  for (int i = 0; i < b.shape().layers; ++i) {
    LayerNorm(&b, i, "attn_norm");
    if (two_norms) LayerNorm(&b, i, "attn_norm_2");
    b.FusedAttention(i);
    b.PlainFfn(i, false);
  }
  return b.Take();
}
TinyModel Falcon7B(uint64_t seed) { return Falcon(seed, 1, false); }
TinyModel Falcon40B(uint64_t seed) { return Falcon(seed, 2, true); }

// Files of models with a norm before the feed-forward may say use_parallel_residual all the same: the converter takes
// true where the model's configuration is silent. The tensors decide.
TinyModel StableLm(uint64_t seed, bool bias, bool head_norms, bool parallel) {
  ModelBuilder b("stablelm", {}, seed);
  b.SetCount(kRopeDims, 4).SetCount(kKvHeads, 2).Set("use_parallel_residual", true).Set(kEpsilon, 1e-5f);
  b.Ends(false, true);
  for (int i = 0; i < b.shape().layers; ++i) {
    LayerNorm(&b, i, "attn_norm");
    b.Attention(i, bias);
    if (head_norms) {
      b.Norm(At(i, "attn_q_norm"), b.shape().head_dim, b.shape().heads);
      b.Norm(At(i, "attn_k_norm"), b.shape().head_dim, b.shape().kv_heads);
    }
    if (!parallel) LayerNorm(&b, i, "ffn_norm");
    b.GatedFfn(i, b.shape().ffn);
  }
  return b.Take();
}
TinyModel StableLm3B(uint64_t seed) { return StableLm(seed, false, false, false); }
TinyModel StableLm2Of1B(uint64_t seed) { return StableLm(seed, true, false, false); }
TinyModel StableLm2Of12B(uint64_t seed) { return StableLm(seed, false, true, true); }

}  // namespace

std::vector<ArchitectureModel> DenseArchitectureModels() {
  return {{"llama_biases", LlamaWithBiases},
          {"internlm2", InternLm2},
          {"seed_oss", SeedOss},
          {"granite", Granite},
          {"smollm3", SmolLm3},
          {"phi3_within_original_context", Phi3Within},
          {"phi3_beyond_original_context", Phi3Beyond},
          {"gemma2_27b", Gemma2Of27B},
          {"gemma3_two_periods", Gemma3TwoPeriods},
          {"gemma3_27b", Gemma3Of27B},
          {"command_r", CommandR35B},
          {"command_r_plus", CommandRPlus},
          {"cohere2", Cohere2},
          {"olmo2", Olmo2},
          {"olmo3", Olmo3},
          {"starcoder2", StarCoder2},
          {"falcon_7b", Falcon7B},
          {"falcon_40b", Falcon40B},
          {"stablelm_3b", StableLm3B},
          {"stablelm_2_1b", StableLm2Of1B},
          {"stablelm_2_12b", StableLm2Of12B}};
}

}  // namespace tandem::testing
