#include "coordinator/gateway/watch_stream.h"

#include <utility>

#include "proto/support/status_convert.h"

namespace tandem::coordinator {

void WatchStream::Start() {
  {
    MutexLock lock(&mu_);
    self_ = shared_from_this();
  }
  if (absl::Status added = feed_.Add(shared_from_this()); !added.ok()) End(std::move(added));
  // A client that has the metadata knows that it misses no step.
  StartSendInitialMetadata();
}

void WatchStream::OnTrace(const v1::StepTrace& trace) {
  {
    MutexLock lock(&mu_);
    queue_.Push(trace);
  }
  Continue();
}

void WatchStream::OnFeedClosed() { End(absl::UnavailableError("the coordinator is stopping")); }

void WatchStream::OnSendInitialMetadataDone(bool ok) { Sent(ok); }

void WatchStream::OnWriteDone(bool ok) { Sent(ok); }

void WatchStream::Sent(bool ok) {
  {
    MutexLock lock(&mu_);
    sending_ = false;
  }
  if (!ok) End(absl::CancelledError("the client went away"));
  Continue();
}

void WatchStream::OnCancel() { End(absl::CancelledError("the client went away")); }

void WatchStream::OnDone() {
  feed_.Remove(this);
  std::shared_ptr<WatchStream> self;  // perhaps the last: released after the lock
  MutexLock lock(&mu_);
  self = std::move(self_);
}

void WatchStream::End(absl::Status status) {
  {
    MutexLock lock(&mu_);
    if (ending_) return;
    ending_ = true;
    status_ = std::move(status);
  }
  Continue();
}

void WatchStream::Continue() {
  bool write = false, finish = false;
  absl::Status status;
  {
    MutexLock lock(&mu_);
    if (sending_ || finished_) return;
    if (ending_) {
      finish = finished_ = true;
      status = status_;
    } else {
      write = sending_ = queue_.Pop(&current_);
    }
  }
  if (write) StartWrite(&current_);
  if (finish) Finish(proto_support::ToGrpc(status));
}

}  // namespace tandem::coordinator
