// Which tensors a model of the llama family consists of and the shapes that its hyperparameters imply: the one list
// behind the check of a file, the cost of a layer and the loading of weights.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"

namespace tandem::engine {

inline constexpr char kEmbeddingName[] = "token_embd.weight";
inline constexpr char kOutputNormName[] = "output_norm.weight";
inline constexpr char kHeadName[] = "output.weight";
inline constexpr char kRopeFactorsName[] = "rope_freqs.weight";

// One tensor of a layer: a matrix [rows, cols], or a vector of norm weights [cols].
struct LayerPart {
  absl::string_view name;  // as in LayerTensorName
  bool is_matrix;
  int64_t rows;  // 1 for a vector
  int64_t cols;
};

inline constexpr int kLayerParts = 9;
// In the order in which the block uses them.
std::array<LayerPart, kLayerParts> LayerParts(const ModelSpec& spec);

// Checks that `file` holds every tensor of `spec`, with the right shape and a type that Tandem computes with, and no
// tensor besides, which would mean a model that computes something else. Errors: those of ReadModelSpec.
absl::Status CheckTensors(const ModelSpec& spec, const GgufFile& file);

}  // namespace tandem::engine
