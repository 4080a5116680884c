// What a model is: the hyperparameters of its transformer, read from a GGUF header. Same on coordinator and workers,
// since both read it from the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

// No sequence is longer: rotary angles are exact enough up to here (CanonicalSin).
inline constexpr int32_t kMaxPositions = 1 << 20;

enum class RopeScaling { kNone, kLinear, kYarn };

struct RopeSpec {
  float base = 10000.0f;
  int32_t dims = 0;  // leading elements of a head that rotate, even
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;           // linear and yarn: positions are divided by it
  int32_t original_context = 0;  // yarn: context of the unscaled training
  float yarn_ext_factor = 1.0f, yarn_beta_fast = 32.0f, yarn_beta_slow = 1.0f;
  float attn_factor = 1.0f;  // multiplies rotated elements, besides yarn's own magnitude
};

struct ModelSpec {
  std::string architecture;  // "llama"
  std::string name;          // general.name, for people
  int32_t num_layers = 0;
  int32_t hidden = 0;
  int32_t ffn = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;  // divides heads
  int32_t head_dim = 0;  // of q, k and v
  int32_t vocab = 0;
  int32_t context = 0;  // positions the model was made for, at most kMaxPositions
  float rms_eps = 1e-5f;
  RopeSpec rope;
  bool tied_head = false;  // no output.weight: the head multiplies by the embedding
};

// Reads and checks the hyperparameters and that every tensor the architecture needs is there with the shape they imply
// and a type that has kernels. Errors: kInvalidArgument (missing or impossible value; names the key or tensor, what was
// found and what was expected), kUnimplemented (architecture or tensor type that Tandem does not compute; names it and
// what is supported).
absl::StatusOr<ModelSpec> ReadModelSpec(const GgufFile& file);

// Tensor names of the llama family: "blk.7.attn_q.weight" is LayerTensorName(7, "attn_q").
std::string LayerTensorName(int32_t layer, absl::string_view part);

// What running a layer costs, for placement. Weight bytes are what a decode reads, packed.
struct PartCost {
  uint64_t weight_bytes = 0;  // resident and read once a step
  uint64_t macs_per_token = 0;
};
struct ModelCost {
  std::vector<PartCost> layers;
  PartCost embedding;                        // resident bytes; a lookup reads almost nothing, so macs is 0
  PartCost head;                             // with the output norm
  uint64_t kv_elements_per_token_layer = 0;  // 2 * kv_heads * head_dim
};
// `spec` was read from `file`.
ModelCost ComputeModelCost(const ModelSpec& spec, const GgufFile& file);

}  // namespace tandem::engine
