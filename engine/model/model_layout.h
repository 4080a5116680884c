// Which tensors a model consists of, the shapes that its hyperparameters imply and where each goes: the one list behind
// the check of a file, the cost of a layer and the loading of weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/layer_weights.h"
#include "engine/model/model_spec.h"

namespace tandem::engine {

inline constexpr char kEmbeddingName[] = "token_embd.weight";
inline constexpr char kOutputNormName[] = "output_norm.weight";
inline constexpr char kOutputNormBiasName[] = "output_norm.bias";
inline constexpr char kHeadName[] = "output.weight";

// Where rows of a tensor go: exactly one of the pointers is set.
struct Destination {
  Vector LayerWeights::*vector = nullptr;
  PackedMatrix LayerWeights::*matrix = nullptr;
  Matrices LayerWeights::*matrices = nullptr;  // the first of them at `index`, one an item of the tensor
  int64_t rows = 0;                            // of an item; of a vector: its elements
  bool transposed = false;                     // the matrix is the transpose of the rows
  int32_t index = 0;
};

// One tensor of a layer: `items` (experts or heads, the slowest axis) of the rows of `parts`, one after the other.
struct LayerTensor {
  std::string name;            // "blk.7.attn_q.weight"
  std::vector<uint64_t> dims;  // as in the file: fastest axis first
  int64_t items = 1;
  int64_t cols = 0;  // of the matrices
  std::vector<Destination> parts;

  bool is_vector() const { return parts.front().vector != nullptr; }
  bool is_expert() const;  // read only by the tokens that chose it
};

// The tensors of a layer that `file` must hold, and those it may hold and does, in the order in which they are loaded.
std::vector<LayerTensor> LayerTensors(const ModelSpec& spec, const GgufFile& file, int32_t layer);

// Names of all tensors of a stage in the order in which they are loaded.
std::vector<std::string> StageTensorNames(const ModelSpec& spec, const GgufFile& file, int32_t first_layer,
                                          int32_t end_layer);

// Type in which a matrix of a file's type is packed: a transpose of quantised rows becomes F16, since blocks lie along
// rows.
TensorType PackedType(const Destination& part, TensorType type);

// Checks that `file` holds every tensor of `spec`, with the right shape and a type that Tandem computes with, and no
// tensor besides, which would mean a model that computes something else. Errors: those of ReadModelSpec.
absl::Status CheckTensors(const ModelSpec& spec, const GgufFile& file);

// "blk.7.attn_q.weight" is LayerTensorName(7, "attn_q").
std::string LayerTensorName(int32_t layer, absl::string_view part);

}  // namespace tandem::engine
