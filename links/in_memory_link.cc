#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "links/step_link.h"

namespace tandem::links {
namespace {

class InMemoryLink : public StepLink {
 public:
  explicit InMemoryLink(FrameHandler handler) : handler_(std::move(handler)) {}
  ~InMemoryLink() override { Close(); }

  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override {
    {
      absl::MutexLock lock(&mu_);
      if (closed_) return absl::UnavailableError("the link is closed");
      ++stats_.frames;
      stats_.bytes += frame->ByteSizeLong();
      ++sending_;
    }
    handler_(std::move(frame));
    absl::MutexLock lock(&mu_);
    --sending_;
    return absl::OkStatus();
  }

  void Close() override {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    const auto idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return sending_ == 0; };
    mu_.Await(absl::Condition(&idle));
  }

  LinkStats stats() const override {
    absl::MutexLock lock(&mu_);
    return stats_;
  }

 private:
  const FrameHandler handler_;
  mutable absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  int sending_ ABSL_GUARDED_BY(mu_) = 0;  // calls of handler_ that run now
  LinkStats stats_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<StepLink> MakeInMemoryLink(FrameHandler handler) {
  return std::make_unique<InMemoryLink>(std::move(handler));
}

}  // namespace tandem::links
