// The table of architectures: what the models that Tandem computes differ in. One row an architecture; one transformer
// block reads it. What a row leaves out is as in llama. Definitions: the models' papers and published configurations;
// names as in GGUF files (general.architecture).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::engine {

enum class NormKind {
  kRms,        // x / rms(x) * weight
  kLayer,      // (x - mean) / deviation * weight
  kLayerBias,  // the same + bias
};

// Where the residual stream is normed: on the way into a sub-layer, on the way out of it, or both.
enum class NormPlace { kBefore, kAfter, kAround };

// Attention and FFN one after the other, or both on the same input.
enum class Residual { kSequential, kParallel, kParallelWithoutFfnNorm };

// Which elements of a head form a rotating pair: neighbours, or element i of the first and of the second half.
enum class RopeKind { kPairs, kHalves };
enum class RopeLayers {
  kAll,
  kWindowed,
  kByKey,
  kThreeOfFour
};  // kByKey: rope.scaling.finetuned; kThreeOfFour: not the 4th

// Norm of queries and keys before they rotate: of each head, or of all heads as one row.
enum class QkNorm { kNone, kHead, kHeadOptional, kRow };

enum class Activation { kSilu, kGeluTanh, kGeluErf, kClampedSwiglu };

// How scores of experts become weights. kSoftmaxOfChosen: softmax over the chosen ones alone.
enum class Gating { kSoftmax, kSigmoid, kSoftmaxOfChosen };

enum class LogitScale { kNone, kMultiply, kDivide };

struct Architecture {
  absl::string_view name;

  NormKind norm = NormKind::kRms;
  NormPlace norm_place = NormPlace::kBefore;
  absl::string_view ffn_norm = "ffn_norm";  // tensor of the norm before the FFN
  Residual residual = Residual::kSequential;

  RopeKind rope = RopeKind::kPairs;
  RopeLayers rope_layers = RopeLayers::kAll;
  bool windowed_rope_unscaled = false;  // layers with a window rotate without rope scaling ...
  float windowed_rope_base = 0;         // ... and from this base; 0: the model's

  bool qkv_bias = false;  // must be there; elsewhere a bias of attention may be there
  QkNorm qk_norm = QkNorm::kNone;
  bool sinks = false;          // a score without a value in each softmax
  bool compressed = false;     // multi-head latent attention
  int32_t window_period = 0;   // each so many layers, the last sees all keys, the others a window; 0: no windows
  int32_t default_window = 0;  // where the file has none; 0: then there are no windows
  // The model of so many layers scales scores by 1 / sqrt(hidden / heads), not by 1 / sqrt(head length).
  int32_t width_scaled_layers = 0;
  float default_attention_cap = 0, default_logit_cap = 0;  // 0: none
  bool embedding_times_sqrt_width = false;
  LogitScale logit_scale = LogitScale::kNone;

  Activation activation = Activation::kSilu;
  bool gated = true;  // FFN of gate, up and down; else of up and down
  Gating gating = Gating::kSoftmax;
  bool normalise_experts = true;  // weights of the chosen experts sum to one; the file may say otherwise
};

std::span<const Architecture> AllArchitectures();
// Null if there is none of that name.
const Architecture* FindArchitecture(absl::string_view name);
// The name in the table with the smallest edit distance, for error messages.
absl::string_view NearestArchitecture(absl::string_view name);

}  // namespace tandem::engine
