// Tells those who watch what each step cost.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/dispatcher.h"
#include "engine/base/mutex.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

// Calls come from the dispatch thread (OnTrace) and from the thread that closes the feed; none may block.
class StepWatcher {
 public:
  virtual ~StepWatcher() = default;
  virtual void OnTrace(const v1::StepTrace& trace) = 0;
  // The coordinator stops: there will be no more traces.
  virtual void OnFeedClosed() = 0;
};

// Traces that wait for a watcher to take them: at most kMaxQueued; those that come while it is full are dropped and
// counted in the next one that is taken in. Thread-compatible.
class TraceQueue {
 public:
  static constexpr size_t kMaxQueued = 1024;

  void Push(const v1::StepTrace& trace);
  // The oldest one; false: there is none.
  bool Pop(v1::StepTrace* trace);

 private:
  std::deque<v1::StepTrace> traces_;
  uint64_t lost_ = 0;  // since the last one in traces_
};

// Thread-safe. While nobody watches, a step costs one load.
class StepFeed {
 public:
  static constexpr size_t kMaxWatchers = 16;

  // Errors: kResourceExhausted (kMaxWatchers watch already), kUnavailable (closed).
  absl::Status Add(std::shared_ptr<StepWatcher> watcher);
  // A call on its way may still come. Ignores one that is not there.
  void Remove(const StepWatcher* watcher);
  // On the dispatch thread.
  void OnStep(const StepReport& report);
  // Ends all watching. Idempotent.
  void Close();

 private:
  std::vector<std::shared_ptr<StepWatcher>> watchers() const;

  mutable Mutex mu_;
  std::vector<std::shared_ptr<StepWatcher>> watchers_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<size_t> count_ = 0;  // of watchers_
};

}  // namespace tandem::coordinator
