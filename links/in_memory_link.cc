#include <utility>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"
#include "links/step_link.h"

namespace tandem::links {
namespace {

class InMemoryLink : public StepLink {
 public:
  explicit InMemoryLink(FrameHandler handler) : handler_(std::move(handler)) {}
  ~InMemoryLink() override { Close(); }

  absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override {
    {
      MutexLock lock(&mu_);
      if (closed_) return absl::UnavailableError("the link is closed");
      ++stats_.frames;
      ++stats_.acknowledged;
      stats_.bytes += frame->ByteSizeLong();
      ++sending_;
    }
    handler_(std::move(frame));
    MutexLock lock(&mu_);
    if (--sending_ == 0) idle_.NotifyAll();
    return absl::OkStatus();
  }

  void Close() override {
    MutexLock lock(&mu_);
    closed_ = true;
    while (sending_ > 0) idle_.Wait(&mu_);
  }

  LinkStats stats() const override {
    MutexLock lock(&mu_);
    return stats_;
  }

 private:
  const FrameHandler handler_;
  mutable Mutex mu_;
  CondVar idle_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  int sending_ ABSL_GUARDED_BY(mu_) = 0;  // calls of handler_ that run now
  LinkStats stats_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<StepLink> MakeInMemoryLink(FrameHandler handler) {
  return std::make_unique<InMemoryLink>(std::move(handler));
}

}  // namespace tandem::links
