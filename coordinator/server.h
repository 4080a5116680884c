// A coordinator: everything between the network and the scheduler, wired together. Used by tandem-coordinator, by
// `tandem up`, and by tests, several in a process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/placement/cost_model.h"
#include "coordinator/scheduler/scheduler.h"
#include "engine/stage.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

struct CoordinatorConfig {
  std::string model_path;
  std::vector<std::string> adapters;      // NAME=FILE each: low-rank adapters that requests may name
  std::string listen = "127.0.0.1:7070";  // port 0: any
  std::string advertise;                  // where workers reach it; empty: `listen` with the real port
  int32_t min_workers = 1;                // as in ClusterOptions; 0 is 1
  int32_t max_pipelines = 0;              // as in PlanInput
  int32_t context = 0;                    // tokens of a sequence; 0: the model's, at most kDefaultContext
  engine::KvType kv_type = engine::KvType::kF16;
  ActivationChoice activations = engine::TensorType::kF32;
  int32_t max_sequences = 8;                  // full contexts that the KV pages should hold
  double prompt_share = kDefaultPromptShare;  // as in PlanOptions
  int32_t max_waiting = 256;                  // requests that may wait for admission
  // Speculation: as in SchedulerConfig.
  int32_t max_guessed_tokens = kDefaultGuessedTokens;
  // A model that guesses for the one that is served (draft_model.h); empty: none. Its threads; 0: one per core.
  std::string draft_path;
  int32_t draft_threads = 0;
  int32_t max_step_tokens = 512;  // tokens of a step
  std::string metrics_listen;     // empty: off
  bool insecure = false;          // listen beyond loopback
};

// Owns model, listener and threads. Threading: all functions are thread-safe.
class Coordinator {
 public:
  // Opens the model and listens. Errors: those of ServedModel::Open and MakePlanInput; kInvalidArgument (a setting;
  // names it), kFailedPrecondition (listening beyond loopback without `insecure`), kUnavailable (port in use; names the
  // address).
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(const CoordinatorConfig& config);
  // Stops.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // Ends generations and memberships with kUnavailable, then all threads. Idempotent; a second caller returns when the
  // first is done.
  void Stop();

  int port() const;
  int metrics_port() const;            // 0: off
  const std::string& address() const;  // where workers reach it, host:port
  v1::ClusterState state() const;

 private:
  struct Parts;
  explicit Coordinator(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace tandem::coordinator
