// Sends the requests of a load to a server and records what comes back.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "cli/bench/load_report.h"
#include "cli/bench/workload.h"
#include "engine/base/interrupt.h"
#include "tandem/v1/generate.grpc.pb.h"

namespace tandem::cli {

struct LoadLimits {
  int clients = 0;  // so many requests are under way, one sent when another ends; 0: each is sent when it is due
  uint64_t requests = std::numeric_limits<uint64_t>::max();            // most that are sent
  double duration_s = std::numeric_limits<double>::infinity();         // none is sent later
  double request_timeout_s = std::numeric_limits<double>::infinity();  // deadline of each
};

struct LoadProgress {
  double elapsed_s = 0;
  uint64_t sent = 0, ended = 0, failed = 0, tokens = 0;
};

// One load, run once. Run blocks its thread; answers come in on threads of gRPC.
class LoadClient {
 public:
  explicit LoadClient(const std::shared_ptr<grpc::Channel>& channel) : stub_(v1::Tandem::NewStub(channel)) {}

  // Sends until `limits` or the end of the trace, then waits for the answers under way. Ctrl-C on `interrupt` cancels
  // those, and Run returns what there is. `on_progress` is called some times a second. Records are in the order sent.
  std::vector<RequestRecord> Run(Workload& workload, const LoadLimits& limits, Interrupt& interrupt,
                                 const std::function<void(const LoadProgress&)>& on_progress);

 private:
  class Call;

  double Now() const;  // seconds since the run began
  // Sends what is due; false: nothing is to be sent any more, now or later.
  bool SendDue(Workload& workload, const LoadLimits& limits);
  void Send(const Arrival& arrival, const LoadLimits& limits);
  // Until a call has ended, the next one is due, or some time has passed; false: all has ended.
  bool Wait(bool more, const LoadLimits& limits);
  void CancelAll();
  void OnEnded(uint64_t number, RequestRecord record);
  LoadProgress progress() const;

  const std::unique_ptr<v1::Tandem::Stub> stub_;
  std::chrono::steady_clock::time_point start_;
  std::optional<Arrival> next_;  // taken from the workload, not sent; the thread's that runs
  std::atomic<uint64_t> tokens_ = 0;

  mutable absl::Mutex mu_;
  absl::CondVar wake_;
  bool changed_ ABSL_GUARDED_BY(mu_) = false;  // a call has ended since this was cleared
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t failed_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<RequestRecord> records_ ABSL_GUARDED_BY(mu_);                             // of all that were sent
  std::map<uint64_t, std::shared_ptr<grpc::ClientContext>> open_ ABSL_GUARDED_BY(mu_);  // by index of the record
  // Of calls that have ended. A context holds the channel, which must not end on one of gRPC's own threads, since it
  // waits for them: so the running thread lets them go.
  std::vector<std::shared_ptr<grpc::ClientContext>> released_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::cli
