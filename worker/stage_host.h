// The stage of this worker through its life: placed, loaded, connected, serving, dropped. The one place that decides
// the order of these.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "links/grpc_link.h"
#include "links/step_loop.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "worker/load_cancel.h"
#include "worker/metrics.h"
#include "worker/shard_loader.h"

namespace tandem::worker {

struct StageHostOptions {
  ShardLoaderOptions loader;
  // Draw a progress bar on stderr; else log a line now and then.
  bool terminal = false;
  // How long the next stage may be out of reach before the placement fails. One that answers but still loads is waited
  // for as long as the coordinator wants it.
  absl::Duration unreachable_limit = absl::Seconds(30);
};

// Placements are carried out on a thread of its own, one at a time; a newer command ends the one under way. When a link
// of the stage breaks, the stage is dropped and thereby both its links, so that the break runs through the pipeline to
// the coordinator, which places anew.
// Thread-safe but for Stop, which belongs to the owner.
class StageHost {
 public:
  // Called on the host's thread with LoadProgress and LoadDone.
  using SendMessage = std::function<void(v1::WorkerMessage message)>;

  // `coordinator`, `pipeline` and `metrics` must outlive the host.
  StageHost(StageHostOptions options, v1::Cluster::StubInterface& coordinator, links::PipelineService& pipeline,
            WorkerMetrics& metrics, SendMessage send);
  ~StageHost() { Stop(); }
  StageHost(const StageHost&) = delete;
  StageHost& operator=(const StageHost&) = delete;

  // Do not block.
  void Place(const v1::Place& place);
  void Unload(uint64_t epoch);  // of another epoch than the last placed: does nothing
  void SendAs(const v1::SendAs& send_as);
  void Drop(const std::string& reason);  // whatever the epoch
  v1::Heartbeat heartbeat();

  // Drops the stage and ends the thread. Idempotent.
  void Stop();

 private:
  // Drops the stage, then carries out `place` if there is one.
  struct Command {
    std::optional<v1::Place> place;
    std::string reason;
  };

  void Post(Command command);
  void Loop();
  void Execute(const v1::Place& place, LoadCancel& cancel);
  absl::Status LoadAndServe(const v1::Place& place, LoadCancel& cancel, v1::LoadDone* done);
  absl::StatusOr<LoadedShard> Load(const v1::Place& place, LoadCancel& cancel);
  absl::StatusOr<std::unique_ptr<links::StepLink>> DialNext(const v1::Place& place, LoadCancel& cancel);
  // Times the hop to the next stage, for the coordinator to plan with.
  void MeasureNext(const v1::Place& place, v1::LoadDone* done);
  void DropStage(const std::string& reason);
  // A link of `epoch` broke, or a frame was lost. Any thread; does not block.
  void OnBroken(uint64_t epoch, const absl::Status& why);

  const StageHostOptions options_;
  v1::Cluster::StubInterface& coordinator_;
  links::PipelineService& pipeline_;
  WorkerMetrics& metrics_;
  const SendMessage send_;
  std::unique_ptr<links::StepLoop> loop_;  // host's thread; null: no stage

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Command> command_ ABSL_GUARDED_BY(mu_);      // not begun yet
  std::shared_ptr<LoadCancel> cancel_ ABSL_GUARDED_BY(mu_);  // of the command under way
  uint64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;                  // last placed and not dropped
  links::StepLoop* serving_ ABSL_GUARDED_BY(mu_) = nullptr;  // loop_, once it has been started
  uint64_t memory_used_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status broken_ ABSL_GUARDED_BY(mu_);  // what broke epoch_, not dealt with yet
  std::thread thread_;
};

}  // namespace tandem::worker
