// What a model is: the hyperparameters of its transformer, read from a GGUF header. Same on coordinator and workers,
// since both read it from the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/architecture.h"

namespace tandem::engine {

// No sequence is longer: rotary angles are exact enough up to here (CanonicalSin).
inline constexpr int32_t kMaxPositions = 1 << 20;

enum class RopeScaling { kNone, kLinear, kYarn };

struct RopeSpec {
  float base = 10000.0f;
  int32_t dims = 0;  // elements of a head that rotate, even: the first ones, with compressed attention the last ones
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;           // linear and yarn: positions are divided by it
  int32_t original_context = 0;  // context of the unscaled training
  float yarn_ext_factor = 1.0f, yarn_beta_fast = 32.0f, yarn_beta_slow = 1.0f;
  // yarn: rotated elements grow by 1 + this * ln(factor)
  float yarn_log_multiplier = 0.1f;
  float attn_factor = 1.0f;  // multiplies rotated elements, besides yarn's own magnitude
  bool operator==(const RopeSpec&) const = default;
};

// Experts of the layers that have them; count 0: none has.
struct ExpertSpec {
  int32_t count = 0;
  int32_t used = 0;        // by a token
  int32_t ffn = 0;         // width of one
  int32_t shared_ffn = 0;  // width of those that every token goes through, taken as one; 0: none
  Gating gating = Gating::kSoftmax;
  bool normalise = true;
  float scale = 1.0f;  // of the weights
  int32_t groups = 1;  // a token's experts come from groups_used of so many groups
  int32_t groups_used = 1;
};

// Keys and values of one token and layer in the cache: heads, and elements of a key and a value. value_dim 0: values
// are the beginning of the keys.
struct KvRow {
  int32_t heads = 0, key_dim = 0, value_dim = 0;
  int64_t elements() const { return int64_t{heads} * (int64_t{key_dim} + value_dim); }
};

struct LayerSpec {
  int32_t ffn = 0;     // width of the dense FFN; 0 in a layer of experts
  int32_t window = 0;  // keys that a query sees, itself included; 0: all
  bool rotates = true;
};

struct ModelSpec {
  std::string architecture;           // as in the file
  const Architecture* row = nullptr;  // its row of the table
  std::string name;                   // general.name, for people
  int32_t num_layers = 0;
  int32_t ignored_layers = 0;  // after these, in the file: they predict further tokens
  int32_t hidden = 0;
  int32_t ffn = 0;  // widest dense FFN, or the expert's where no layer has one
  int32_t heads = 0;
  int32_t kv_heads = 0;   // divides heads
  int32_t head_dim = 0;   // of queries and keys
  int32_t value_dim = 0;  // of values
  int32_t q_rank = 0;     // compressed attention: 0 if queries are not compressed
  int32_t kv_rank = 0;    // 0: keys and values are not compressed
  int32_t vocab = 0;
  int32_t context = 0;  // positions the model was made for, at most kMaxPositions
  float norm_eps = 1e-5f;
  bool parallel = false;  // attention and FFN work on the same input
  RopeSpec rope;
  RopeSpec windowed_rope;    // of layers with a window ...
  bool two_ropes = false;    // ... where that makes a difference
  std::string rope_factors;  // tensor that divides the frequencies of `rope`; empty: none
  KvRow kv;
  std::vector<LayerSpec> layers;  // [num_layers]
  ExpertSpec experts;
  float attention_scale = 1.0f;                  // of the scores
  float attention_cap = 0.0f, logit_cap = 0.0f;  // c tanh(x / c); 0: none
  float embedding_scale = 1.0f, residual_scale = 1.0f, logit_scale = 1.0f;
  bool tied_head = false;  // no output.weight: the head multiplies by the embedding

  // Elements of a head's query and of its result as the attention kernel sees them.
  int32_t query_dim() const { return kv.key_dim; }
  int32_t result_dim() const { return kv_rank > 0 ? kv_rank : value_dim; }
};

// Reads and checks the hyperparameters and that every tensor the architecture needs is there with the shape they imply
// and a type that has kernels. Errors: kInvalidArgument (missing or impossible value; names the key or tensor, what was
// found and what was expected), kUnimplemented (architecture or tensor type that Tandem does not compute; names it and
// what is supported).
absl::StatusOr<ModelSpec> ReadModelSpec(const GgufFile& file);

// What running a layer costs, for placement.
struct PartCost {
  uint64_t weight_bytes = 0;  // resident, packed
  uint64_t macs_per_token = 0;
  uint64_t expert_bytes = 0;  // part of the weights, of which a token reads expert_share
  double expert_share = 0;

  // Expected weight bytes that a step of `tokens` reads: experts nobody chose are left alone.
  double ReadBytes(int32_t tokens) const;
};
struct ModelCost {
  std::vector<PartCost> layers;
  PartCost embedding;                        // resident bytes; a lookup reads almost nothing, so macs is 0
  PartCost head;                             // with the output norm
  uint64_t tied_bytes = 0;                   // of the head that are the embedding's, where one stage holds both
  uint64_t kv_elements_per_token_layer = 0;  // of keys and values in the cache

  // Resident bytes of what a stage holds besides its layers.
  uint64_t EndBytes(bool is_first, bool is_last) const {
    return (is_first ? embedding.weight_bytes : 0) + (is_last ? head.weight_bytes : 0) -
           (is_first && is_last ? tied_bytes : 0);
  }
};
// `spec` was read from `file`.
ModelCost ComputeModelCost(const ModelSpec& spec, const GgufFile& file);

}  // namespace tandem::engine
