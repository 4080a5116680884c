// The cluster thread: drives Cluster with what arrives from gRPC threads and with the clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/cluster.h"
#include "engine/base/mutex.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

// Threading: all public functions are thread-safe and none blocks, but Stop. Owns one thread, which alone touches the
// Cluster.
class ClusterManager {
 public:
  using PlanCallback = std::function<void(absl::StatusOr<v1::PlanReply>)>;

  // Borrows model and ends, also those of `draft`, which must outlive it. Events wait until Start.
  ClusterManager(const ServedModel& model, ClusterOptions options, PipelineEnds& ends, DraftPlacing draft = {});
  // Stops.
  ~ClusterManager();
  ClusterManager(const ClusterManager&) = delete;
  ClusterManager& operator=(const ClusterManager&) = delete;

  // Starts the thread. `address`: where workers reach this coordinator, host:port. Call once.
  void Start(const std::string& address);
  // A worker said Hello on `session`. Returns its id for the calls below. A refusal ends the session.
  uint64_t Join(v1::Hello hello, std::shared_ptr<MemberSession> session);
  // False if the queue is full: the caller ends the stream.
  [[nodiscard]] bool OnMessage(uint64_t id, v1::WorkerMessage message);
  void Leave(uint64_t id, absl::Status why);
  void OnPipelineBroken(uint64_t epoch, absl::Status why);

  // As of the last event.
  v1::ClusterState state() const;
  // Calls `done` on the cluster thread with the placement for the workers present; with kUnavailable if stopped, on the
  // caller's.
  void Plan(int32_t context, PlanCallback done);
  // Ends pipeline and sessions, answers what waits, joins the thread. Idempotent.
  void Stop();

 private:
  using Event = std::function<void(Time now)>;
  // Messages of workers wait at most in this number: heartbeats of hundreds of workers for seconds.
  static constexpr size_t kMaxQueued = 1024;

  bool Post(Event event, bool bounded);
  void Run();

  const std::chrono::milliseconds tick_;
  Cluster cluster_;  // cluster thread only
  std::atomic<uint64_t> next_id_{1};

  mutable Mutex mu_;
  CondVar wake_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  v1::ClusterState state_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  Mutex stop_mu_;  // serialises Stop
  std::thread thread_ ABSL_GUARDED_BY(stop_mu_);
};

}  // namespace tandem::coordinator
