// One Cluster.Join call: messages out, messages in, and its end. Reconnecting is ClusterClient's.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "tandem/v1/cluster.grpc.pb.h"

namespace tandem::worker {

// Thread-safe. Ends by itself or by Close; its owner destroys it after Close.
class JoinStream : private grpc::ClientBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage> {
 public:
  using OnMessage = std::function<void(v1::CoordinatorMessage message)>;
  using OnEnd = std::function<void(absl::Status status)>;

  // Both are called on gRPC threads and must not block; `on_end` once, after the last message. kOk means that the
  // coordinator ended the call in order.
  JoinStream(v1::Cluster::Stub& stub, OnMessage on_message, OnEnd on_end);
  ~JoinStream() override { Close(); }

  // Queues a message. False, and the message dropped, if the call has ended, or the coordinator does not take messages.
  bool Send(v1::WorkerMessage message);
  // Ends the call; when it returns no callback runs any more. Idempotent.
  void Close();

 private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  // True once, when neither a read nor a write can follow: the caller then removes the hold.
  bool TakeHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const OnMessage on_message_;
  const OnEnd on_end_;
  grpc::ClientContext context_;
  v1::CoordinatorMessage incoming_;  // of the read in progress
  absl::Mutex mu_;
  std::deque<v1::WorkerMessage> outgoing_ ABSL_GUARDED_BY(mu_);  // the front is being written while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool holding_ ABSL_GUARDED_BY(mu_) = true;
  bool read_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool write_failed_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::worker
