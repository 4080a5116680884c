// Turns a placement into a loaded stage: finds the model on this machine's disk, or fetches this stage's part of it
// from the coordinator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/stage.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "worker/load_cancel.h"

namespace tandem::worker {

struct ShardLoaderOptions {
  // GGUF files, and folders whose *.gguf files are candidates.
  std::vector<std::string> model_paths;
  // What weights, KV pages and scratch memory together may take.
  uint64_t memory_bytes = 0;
  engine::Isa isa = engine::Isa::kScalar;
  int threads = 0;
  bool pin_threads = true;
};

struct LoadedShard {
  std::unique_ptr<engine::Stage> stage;
  engine::ModelSpec spec;
  bool from_local_file = false;
};

// The local file that is `model`, opened; null if there is none. Files that cannot be read are logged and passed over.
std::unique_ptr<engine::GgufFile> FindLocalModel(const std::vector<std::string>& paths, const v1::ModelRef& model);

// Loads the stage of `place`. `progress` is called on this thread with bytes of weights. Errors: kInvalidArgument
// (`place` or the model, naming the field), kResourceExhausted (does not fit: found before anything is loaded; gives
// the bytes wanted and those allowed), kDataLoss, kCancelled, those of calls to the coordinator.
absl::StatusOr<LoadedShard> LoadShard(const ShardLoaderOptions& options, const v1::Place& place,
                                      v1::Cluster::StubInterface& coordinator, const engine::LoadProgress& progress,
                                      LoadCancel& cancel);

}  // namespace tandem::worker
