#include "worker/load_cancel.h"

namespace tandem::worker {

void LoadCancel::Cancel() {
  // Under the lock, since the context must not end meanwhile; TryCancel neither blocks nor calls back.
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  if (call_ != nullptr) call_->TryCancel();
}

bool LoadCancel::cancelled() const {
  absl::MutexLock lock(&mu_);
  return cancelled_;
}

bool LoadCancel::WaitFor(absl::Duration time) const {
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&cancelled_), time);
}

LoadCancel::Watch::Watch(LoadCancel& cancel, grpc::ClientContext& context) : cancel_(cancel) {
  absl::MutexLock lock(&cancel_.mu_);
  cancel_.call_ = &context;
  // A context that is cancelled before its call begins makes the call end at once.
  if (cancel_.cancelled_) context.TryCancel();
}

LoadCancel::Watch::~Watch() {
  absl::MutexLock lock(&cancel_.mu_);
  cancel_.call_ = nullptr;
}

}  // namespace tandem::worker
