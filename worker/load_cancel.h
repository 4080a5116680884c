// Ends a load from another thread, wherever it is: between tensors, in a call to the coordinator, or waiting.
#pragma once

#include <grpcpp/client_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tandem::worker {

// Thread-safe. Cancel is for good: each load has an object of its own.
class LoadCancel {
 public:
  void Cancel();
  bool cancelled() const;
  // Waits; true as soon as the load is cancelled, false after `time`.
  bool WaitFor(absl::Duration time) const;

  // For its own lifetime, cancels `context`'s call when the load is cancelled, also if it was before.
  class Watch {
   public:
    Watch(LoadCancel& cancel, grpc::ClientContext& context);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    LoadCancel& cancel_;
  };

 private:
  mutable absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  grpc::ClientContext* call_ ABSL_GUARDED_BY(mu_) = nullptr;  // a load makes one call at a time
};

}  // namespace tandem::worker
