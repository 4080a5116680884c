#include "coordinator/step_feed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::coordinator {
namespace {

uint32_t Microseconds(double seconds) { return static_cast<uint32_t>(std::clamp(seconds * 1e6 + 0.5, 0.0, 4e9)); }

v1::StepTrace TraceOf(const StepReport& report) {
  using std::chrono::microseconds;
  v1::StepTrace trace;
  trace.set_pipeline(static_cast<uint32_t>(report.pipeline));
  trace.set_epoch(report.epoch);
  trace.set_step(report.step);
  const auto planned = std::chrono::duration_cast<microseconds>(report.planned.time_since_epoch());
  trace.set_planned_us(static_cast<uint64_t>(std::max<int64_t>(0, planned.count())));
  trace.set_round_trip_us(Microseconds(report.round_trip_s));
  trace.set_prefill_tokens(static_cast<uint32_t>(report.prefill_tokens));
  trace.set_decode_tokens(static_cast<uint32_t>(report.decode_tokens));
  trace.set_first_wire_us(Microseconds(report.first_wire_s));
  for (size_t i = 0; i < report.stages.size(); ++i) {
    v1::StageTiming& stage = *trace.add_stages();
    stage.set_stage(static_cast<uint32_t>(i));
    stage.set_queue_us(Microseconds(report.stages[i].queue_s));
    stage.set_compute_us(Microseconds(report.stages[i].compute_s));
    stage.set_wire_us(Microseconds(report.stages[i].wire_s));
  }
  return trace;
}

}  // namespace

void TraceQueue::Push(const v1::StepTrace& trace) {
  if (traces_.size() >= kMaxQueued) {
    ++lost_;
    return;
  }
  traces_.push_back(trace);
  traces_.back().set_lost(std::exchange(lost_, 0));
}

bool TraceQueue::Pop(v1::StepTrace* trace) {
  if (traces_.empty()) return false;
  *trace = std::move(traces_.front());
  traces_.pop_front();
  return true;
}

absl::Status StepFeed::Add(std::shared_ptr<StepWatcher> watcher) {
  MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the coordinator is stopping");
  if (watchers_.size() >= kMaxWatchers) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxWatchers, " clients watch the steps already: retry when one has ended"));
  }
  watchers_.push_back(std::move(watcher));
  count_ = watchers_.size();
  return absl::OkStatus();
}

void StepFeed::Remove(const StepWatcher* watcher) {
  std::shared_ptr<StepWatcher> removed;  // perhaps the last reference: released after the lock
  MutexLock lock(&mu_);
  const auto it = std::find_if(watchers_.begin(), watchers_.end(),
                               [watcher](const std::shared_ptr<StepWatcher>& other) { return other.get() == watcher; });
  if (it == watchers_.end()) return;
  removed = std::move(*it);
  watchers_.erase(it);
  count_ = watchers_.size();
}

void StepFeed::OnStep(const StepReport& report) {
  if (count_.load(std::memory_order_relaxed) == 0) return;
  const v1::StepTrace trace = TraceOf(report);
  for (const std::shared_ptr<StepWatcher>& watcher : watchers()) watcher->OnTrace(trace);
}

void StepFeed::Close() {
  {
    MutexLock lock(&mu_);
    closed_ = true;
  }
  for (const std::shared_ptr<StepWatcher>& watcher : watchers()) watcher->OnFeedClosed();
}

std::vector<std::shared_ptr<StepWatcher>> StepFeed::watchers() const {
  MutexLock lock(&mu_);
  return watchers_;
}

}  // namespace tandem::coordinator
