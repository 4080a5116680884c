// The weights of a range of layers, read from a model file and laid out for the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/layer_weights.h"
#include "engine/model/model_spec.h"
#include "engine/model/tensor_source.h"
#include "engine/stage.h"

namespace tandem::engine {

struct StageWeights {
  PackedMatrix embedding;  // first stage, else empty; [vocab, hidden], of which a token reads a row
  std::vector<LayerWeights> layers;
  Vector output_norm, output_norm_bias;  // last stage, else empty; [hidden]
  PackedMatrix head;                     // last stage, else empty; [vocab, hidden]; tied: shares embedding's memory
  Vector rope_factors;                   // empty where the model has none

  uint64_t bytes = 0;  // what stays for good: all but rope_factors
};

// Reads layers [first, end), the embedding with layer 0, norm and head with the last layer. Each tensor is read once.
// Matrices are read and packed piece by piece by
// all threads, so a load holds little more than its result. Norm weights and rope factors become floats. Errors:
// kCancelled, kResourceExhausted, those of `source`.
absl::StatusOr<StageWeights> LoadStageWeights(const ModelSpec& spec, const GgufFile& file, TensorSource& source,
                                              int32_t first, int32_t end, ThreadPool& pool,
                                              const LoadProgress& progress, const std::function<bool()>& cancelled);

// bytes() of the result, known beforehand.
uint64_t StageWeightBytes(const ModelSpec& spec, const GgufFile& file, int32_t first, int32_t end);

}  // namespace tandem::engine
