// The coordinator's end of a worker's Join call.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "coordinator/cluster_manager.h"
#include "engine/base/mutex.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

// Reads worker messages into the manager and writes what the manager sends. Thread-safe. Alive until gRPC is done with
// it and the manager has let it go.
class JoinStream : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>,
                   public MemberSession,
                   public std::enable_shared_from_this<JoinStream> {
 public:
  // `peer`: the worker's address as gRPC sees it.
  JoinStream(ClusterManager& manager, std::string peer) : manager_(manager), peer_(std::move(peer)) {}
  void Start();

  void Send(v1::CoordinatorMessage message) override;
  void End(absl::Status status) override;

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  absl::Status Take(v1::WorkerMessage message);
  // Writes the next message, or finishes, if neither is under way.
  void Continue();

  // Far more than a coordinator ever has to say to a worker that reads.
  static constexpr size_t kMaxQueued = 64;

  ClusterManager& manager_;
  const std::string peer_;
  v1::WorkerMessage incoming_;  // of the read under way
  uint64_t id_ = 0;             // reading side only; 0: no Hello yet

  Mutex mu_;
  std::deque<v1::CoordinatorMessage> outgoing_ ABSL_GUARDED_BY(mu_);  // the front is being written while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);               // with which the call ends
  std::shared_ptr<JoinStream> self_ ABSL_GUARDED_BY(mu_);  // from Start to OnDone
};

}  // namespace tandem::coordinator
