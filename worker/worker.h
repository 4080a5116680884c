// A worker: everything between the network and the stage, wired together. Used by tandem-worker, by `tandem join`, and
// by tests, several in a process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::worker {

struct WorkerConfig {
  std::string coordinator;               // host:port
  std::string listen = "127.0.0.1:0";    // of the Pipeline service; port 0: any
  std::string advertise;                 // where others reach it; empty: `listen` with the real port
  std::string name;                      // for people; empty: the host's name
  std::vector<std::string> model_paths;  // GGUF files and folders of them
  uint64_t memory_bytes = 0;             // limit; 0: what the machine has
  int threads = 0;                       // 0: one a physical core
  std::string isa;                       // "auto" or "": the best this machine has
  std::string metrics_listen;            // empty: off
  bool insecure = false;                 // listen beyond loopback
  bool pin_threads = true;               // false where several workers share a machine
};

// Owns the listener, the threads and the stage. Threading: Stop and Wait are thread-safe.
class Worker {
 public:
  // Measures the machine (about a second), listens, and begins to join the coordinator, which need not be there yet.
  // Errors: kInvalidArgument (a setting; names it), kFailedPrecondition (listening beyond loopback without `insecure`;
  // a kernel set that this machine lacks), kUnavailable (port in use; names the address), kNotFound (a path of
  // `model_paths`), kResourceExhausted (memory).
  static absl::StatusOr<std::unique_ptr<Worker>> Start(const WorkerConfig& config);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Leaves the cluster, drops the stage, ends all threads. Idempotent; a second caller returns when the first is done.
  void Stop();
  // Until Stop was called (kOk), or the coordinator has refused this worker for good (its error, naming the
  // coordinator).
  absl::Status Wait();

  int port() const;          // of the Pipeline service
  int metrics_port() const;  // 0: off

 private:
  struct Parts;
  explicit Worker(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace tandem::worker
