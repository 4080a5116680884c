// Membership of the cluster: joins the coordinator, keeps the lease alive, passes on what it is told, and joins again
// when the coordinator was away.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "worker/join_stream.h"

namespace tandem::worker {

// All are called on the client's thread, one at a time. They must not block, since heartbeats wait for them.
struct ClusterHandlers {
  std::function<v1::Heartbeat()> heartbeat;
  std::function<void(const v1::Welcome&)> on_welcome;
  std::function<void(const v1::Place&)> on_place;
  std::function<void(const v1::Unload&)> on_unload;
  std::function<void(const v1::SendAs&)> on_send_as;
  // The membership ended: the coordinator has forgotten this worker and its stage.
  std::function<void(const absl::Status&)> on_lost;
  // The coordinator refused this worker for good; nothing follows.
  std::function<void(const absl::Status&)> on_refused;
};

// Times are variable for tests.
struct ClusterClientOptions {
  std::string coordinator;  // host:port, for messages
  v1::Hello hello;
  absl::Duration welcome_timeout = absl::Seconds(10);
  absl::Duration min_backoff = absl::Milliseconds(100);  // doubles with each attempt that fails
  absl::Duration max_backoff = absl::Seconds(5);
};

// Threading: Send is thread-safe; the rest belongs to the owner. Owns one thread.
class ClusterClient {
 public:
  // `stub` must outlive the client.
  ClusterClient(ClusterClientOptions options, v1::Cluster::Stub& stub, ClusterHandlers handlers);
  ~ClusterClient() { Stop(); }
  ClusterClient(const ClusterClient&) = delete;
  ClusterClient& operator=(const ClusterClient&) = delete;

  // Begins to join. Call once.
  void Start();
  // Sends a message while this worker is a member; drops it otherwise.
  void Send(v1::WorkerMessage message);
  // Leaves the cluster and ends the thread. When it returns no handler runs. Idempotent.
  void Stop();

 private:
  // What the client's thread waits for.
  struct Event {
    std::optional<v1::CoordinatorMessage> message;
    absl::Status ended;  // without a message: the call is over
  };

  void Loop();
  // One membership, from connecting to its end. True if it came so far as a Welcome.
  bool Serve(absl::Status* why);
  void Handle(const v1::CoordinatorMessage& message);
  void SendHeartbeat();
  // Waits for an event until `deadline`. False: none came, or Stop was called.
  bool NextEvent(absl::Time deadline, Event* event);
  void Push(Event event);
  // True if Stop was called meanwhile.
  bool Pause(absl::Duration time);
  bool stopping();

  const ClusterClientOptions options_;
  v1::Cluster::Stub& stub_;
  const ClusterHandlers handlers_;
  absl::BitGen random_;  // client's thread
  // Client's thread: set by Welcome.
  bool welcomed_ = false;
  absl::Duration heartbeat_interval_;

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<JoinStream> stream_ ABSL_GUARDED_BY(mu_);  // of the membership; null otherwise
  std::thread thread_;
};

}  // namespace tandem::worker
