// The coordinator's end of a WatchSteps call.
#pragma once

#include <memory>

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "coordinator/step_feed.h"
#include "engine/base/mutex.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

// Writes traces as they come, one at a time; those that the client is too slow for are dropped (TraceQueue).
// Thread-safe. Alive until gRPC is done with it and the feed has let it go.
class WatchStream : public grpc::ServerWriteReactor<v1::StepTrace>,
                    public StepWatcher,
                    public std::enable_shared_from_this<WatchStream> {
 public:
  // `feed` outlives the stream's server.
  explicit WatchStream(StepFeed& feed) : feed_(feed) {}
  // Joins the feed, then sends the initial metadata; ends at once if the feed refuses.
  void Start();

  void OnTrace(const v1::StepTrace& trace) override;
  void OnFeedClosed() override;

  void OnSendInitialMetadataDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void Sent(bool ok);
  void End(absl::Status status);
  // Writes the next trace, or finishes, if neither is under way.
  void Continue();

  StepFeed& feed_;
  v1::StepTrace current_;  // being written

  Mutex mu_;
  TraceQueue queue_ ABSL_GUARDED_BY(mu_);
  bool sending_ ABSL_GUARDED_BY(mu_) = true;  // the initial metadata, or current_
  bool ending_ ABSL_GUARDED_BY(mu_) = false;  // without what is queued
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);                // with which the call ends
  std::shared_ptr<WatchStream> self_ ABSL_GUARDED_BY(mu_);  // from Start to OnDone
};

}  // namespace tandem::coordinator
