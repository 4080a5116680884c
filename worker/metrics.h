// What the worker tells Prometheus, at http://<listen>/metrics:
//
//   worker_step_seconds{part="queue|compute|wire"}   histogram of each step; wire: hand-over to the next stage's ack
//   worker_tokens_total                              tokens of executed steps
//   worker_link_bytes_total{direction="in|out"}      step frames received and sent
//   worker_memory_bytes{kind="weights|kv|scratch"}   what the stage holds now
//   worker_kv_pages                                  KV pages of the stage
//   worker_epoch                                     placement served, 0: none
//   worker_load_bytes_total{source="file|network"}   bytes of tensors loaded
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/stage.h"
#include "links/step_loop.h"

namespace tandem::worker {

// Thread-safe.
class WorkerMetrics {
 public:
  // Serves at `listen` (host:port; port 0: any); "" counts without serving. Errors: kUnavailable (the port is in use or
  // cannot be had; names the address).
  static absl::StatusOr<std::unique_ptr<WorkerMetrics>> Create(const std::string& listen);
  ~WorkerMetrics();
  WorkerMetrics(const WorkerMetrics&) = delete;
  WorkerMetrics& operator=(const WorkerMetrics&) = delete;

  void ObserveStep(const links::StepCost& cost);
  void ObserveWire(double seconds);
  void CountLoad(bool from_local_file, uint64_t bytes);
  // The stage that is served from now on; none: epoch 0, zeros.
  void SetStage(uint64_t epoch, const engine::StageMemory& memory, int64_t kv_pages);

  int port() const;  // of the listener; 0 without one

 private:
  struct Families;
  explicit WorkerMetrics(std::unique_ptr<Families> families);
  const std::unique_ptr<Families> families_;
};

}  // namespace tandem::worker
