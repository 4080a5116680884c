// The adapters that a stage has loaded, by the matrices that they change.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/adapter.h"
#include "engine/model/weights.h"
#include "engine/stage.h"

namespace tandem::engine {

// What an adapter adds to the product of one matrix: scale * B (A x).
struct AdapterDelta {
  PackedMatrix a;  // [rank, cols]
  PackedMatrix b;  // [rows, rank]
  float scale = 1;
};

// Immutable, hence thread-safe. Refers to the matrices of a StageWeights by address.
class AdapterWeights {
 public:
  // Reads the adapters' tensors for layers [first, end) of `weights`, whose layers must stay where they are while the
  // result lives. Errors: as LoadStageWeights; kInvalidArgument (a value that is not finite; names the tensor).
  static absl::StatusOr<AdapterWeights> Load(std::span<const AdapterSpec> specs, std::span<const AdapterSource> sources,
                                             int32_t first, int32_t end, const StageWeights& weights, ThreadPool& pool,
                                             const std::function<bool()>& cancelled);

  // What adapter number `adapter` adds to products with `matrix`; null: nothing.
  const AdapterDelta* Find(int32_t adapter, const PackedMatrix& matrix) const {
    const auto it = adapters_[adapter].find(&matrix);
    return it == adapters_[adapter].end() ? nullptr : &it->second;
  }
  int32_t count() const { return static_cast<int32_t>(adapters_.size()); }
  uint64_t bytes() const { return bytes_; }

 private:
  std::vector<absl::flat_hash_map<const PackedMatrix*, AdapterDelta>> adapters_;
  uint64_t bytes_ = 0;
};

}  // namespace tandem::engine
