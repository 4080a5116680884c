#include "engine/model/architecture.h"

#include <algorithm>
#include <vector>

namespace tandem::engine {
namespace {

constexpr Architecture kArchitectures[] = {
    {.name = "chatglm"},
    {.name = "cohere2",
     .norm = NormKind::kLayer,
     .residual = Residual::kParallel,
     .rope_layers = RopeLayers::kWindowed,
     .window_period = 4,
     .logit_scale = LogitScale::kMultiply},
    {.name = "command-r",
     .norm = NormKind::kLayer,
     .residual = Residual::kParallel,
     .qk_norm = QkNorm::kHeadOptional,
     .logit_scale = LogitScale::kMultiply},
    {.name = "deepseek2", .compressed = true, .normalise_experts = false},
    {.name = "falcon",
     .norm = NormKind::kLayerBias,
     .residual = Residual::kParallel,
     .rope = RopeKind::kHalves,
     .activation = Activation::kGeluErf,
     .gated = false},
    {.name = "gemma2",
     .norm_place = NormPlace::kAround,
     .rope = RopeKind::kHalves,
     .window_period = 2,
     .default_window = 4096,
     .width_scaled_layers = 46,
     .default_attention_cap = 50.0f,
     .default_logit_cap = 30.0f,
     .embedding_times_sqrt_width = true,
     .activation = Activation::kGeluTanh},
    {.name = "gemma3",
     .norm_place = NormPlace::kAround,
     .rope = RopeKind::kHalves,
     .windowed_rope_unscaled = true,
     .windowed_rope_base = 10000.0f,
     .qk_norm = QkNorm::kHead,
     .window_period = 6,
     .width_scaled_layers = 62,
     .embedding_times_sqrt_width = true,
     .activation = Activation::kGeluTanh},
    {.name = "glm4", .norm_place = NormPlace::kAround},
    {.name = "glm4moe",
     .ffn_norm = "post_attention_norm",
     .rope = RopeKind::kHalves,
     .qk_norm = QkNorm::kHeadOptional,
     .gating = Gating::kSigmoid,
     .normalise_experts = false},
    {.name = "gpt-oss",
     .ffn_norm = "post_attention_norm",
     .rope = RopeKind::kHalves,
     .qkv_bias = true,
     .sinks = true,
     .window_period = 2,
     .activation = Activation::kClampedSwiglu,
     .gating = Gating::kSoftmaxOfChosen},
    {.name = "granite", .rope_layers = RopeLayers::kByKey, .logit_scale = LogitScale::kDivide},
    {.name = "granitemoe", .rope_layers = RopeLayers::kByKey, .logit_scale = LogitScale::kDivide},
    {.name = "internlm2"},
    {.name = "llama"},
    {.name = "olmo2",
     .norm_place = NormPlace::kAfter,
     .rope = RopeKind::kHalves,
     .windowed_rope_unscaled = true,
     .qk_norm = QkNorm::kRow,
     .window_period = 4},
    // Its files name a window that the engine behind the reference data does not apply.
    {.name = "phi3", .rope = RopeKind::kHalves},
    {.name = "qwen2", .rope = RopeKind::kHalves, .qkv_bias = true},
    {.name = "qwen2moe", .rope = RopeKind::kHalves, .qkv_bias = true, .normalise_experts = false},
    {.name = "qwen3", .rope = RopeKind::kHalves, .qk_norm = QkNorm::kHead},
    {.name = "qwen3moe", .rope = RopeKind::kHalves, .qk_norm = QkNorm::kHead},
    {.name = "seed_oss", .ffn_norm = "post_attention_norm", .rope = RopeKind::kHalves, .qkv_bias = true},
    {.name = "smollm3", .rope_layers = RopeLayers::kThreeOfFour},
    {.name = "stablelm",
     .norm = NormKind::kLayerBias,
     .residual = Residual::kParallelWithoutFfnNorm,
     .rope = RopeKind::kHalves,
     .qk_norm = QkNorm::kHeadOptional},
    {.name = "starcoder2",
     .norm = NormKind::kLayerBias,
     .rope = RopeKind::kHalves,
     .activation = Activation::kGeluTanh,
     .gated = false},
};

// Levenshtein (1966).
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const Architecture> AllArchitectures() { return kArchitectures; }

const Architecture* FindArchitecture(absl::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

absl::string_view NearestArchitecture(absl::string_view name) {
  const absl::string_view start = name.substr(0, 64);  // a longer one is no name at all
  return std::min_element(std::begin(kArchitectures), std::end(kArchitectures),
                          [&](const Architecture& a, const Architecture& b) {
                            return EditDistance(start, a.name) < EditDistance(start, b.name);
                          })
      ->name;
}

}  // namespace tandem::engine
