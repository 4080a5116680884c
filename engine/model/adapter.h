// Low-rank adapters (Hu et al. 2021, "LoRA") as GGUF files hold them. A product W x with an adapted matrix becomes
// W x + scale * B (A x), where A is [rank, cols], B [rows, rank] and scale is alpha / rank times what a request asks.
//
//   general.type = "adapter", adapter.type = "lora", general.architecture as the model's, adapter.lora.alpha (float32;
//   0: the scale is what the request asks alone); for each adapted tensor NAME two: NAME.lora_a and NAME.lora_b
//
// Format: https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_layout.h"
#include "engine/model/model_spec.h"
#include "engine/stage.h"

namespace tandem::engine {

// One adapted tensor of a layer.
struct AdaptedTensor {
  int32_t layer = 0;
  LayerTensor base;  // of the model
  std::string a, b;  // names in the adapter's file
  int64_t rank = 0;
};

struct AdapterSpec {
  std::vector<AdaptedTensor> tensors;  // by layer, then in the order in which the model's are loaded
  float alpha = 0;
  // What B (A x) is multiplied with, besides the scale of a request.
  float ScaleOf(const AdaptedTensor& tensor) const {
    return alpha == 0 ? 1.0f : alpha / static_cast<float>(tensor.rank);
  }
};

// Reads and checks an adapter against the model that it is to change, whose header is `model`. Errors: kInvalidArgument
// (no adapter, of another architecture, a tensor that the model does not have or has in another shape, one half without
// the other, a rank above kMaxAdapterRank; names key or tensor, what was found and what was expected), kUnimplemented
// (another kind of adapter; a tensor that Tandem does not adapt: embedding, head, norms and experts; a tensor type that
// cannot be read).
absl::StatusOr<AdapterSpec> ReadAdapter(const GgufFile& adapter, const ModelSpec& spec, const GgufFile& model);

inline constexpr int64_t kMaxAdapterRank = 4096;

// Whether Tandem adapts a tensor of a layer: a matrix that every token goes through, alone or fused with others.
bool IsAdaptable(const LayerTensor& tensor);

// Names of an adapter's tensors for layers [first, end), in the order in which they are loaded.
std::vector<std::string> AdapterTensorNames(const AdapterSpec& adapter, int32_t first, int32_t end);

// Bytes that the adapter's tensors for a layer take once loaded. `file` is the adapter's.
uint64_t AdapterBytes(const AdapterSpec& adapter, const GgufFile& file, int32_t layer);

// Type in which a half is packed: F16 as it is, all else as F32.
TensorType PackedAdapterType(TensorType type);

}  // namespace tandem::engine
