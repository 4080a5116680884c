// The cluster's life: from workers that join, over placing and loading, to pipelines that serve, and back when a worker
// is lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/clock.h"
#include "coordinator/dispatcher.h"
#include "coordinator/membership/registry.h"
#include "coordinator/placement/cluster_plan.h"
#include "coordinator/served_model.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

// The way to one worker: the sending half of its Join stream. Thread-safe; never blocks. After the stream's end both do
// nothing.
class MemberSession {
 public:
  virtual ~MemberSession() = default;
  virtual void Send(v1::CoordinatorMessage message) = 0;
  virtual void End(absl::Status status) = 0;
};

// The coordinator's own ends of pipelines, which their epochs name.
class PipelineEnds {
 public:
  virtual ~PipelineEnds() = default;
  // Accept the last stage's stream of `epoch`.
  virtual void Serve(uint64_t epoch) = 0;
  // Dial the first stage and hand the pipeline to the dispatcher. May block for seconds.
  virtual absl::Status Attach(const PipelineSpec& spec, const std::string& first_address) = 0;
  // Take the pipeline from the dispatcher, and refuse its stream. Also undoes a mere Serve.
  virtual void Detach(uint64_t epoch, const absl::Status& why) = 0;
  // What clients are told while nothing serves.
  virtual void Explain(const std::string& why) = 0;
};

// A draft model that a worker to spare may run.
struct DraftPlacing {
  const ServedModel* model = nullptr;  // null: there is none
  PipelineEnds* ends = nullptr;        // those of its dispatcher
  PlanOptions plan;
};

struct ClusterOptions {
  int32_t min_workers = 1;  // place nothing with fewer; a pipeline has at least so many stages where possible
  PlanOptions plan;         // min_stages is taken from min_workers
  // Epochs count up from here. It must be higher than those of a coordinator that ran before at the same address, whose
  // frames might still be on their way: the seconds since 1970 will do.
  uint64_t first_epoch = 1;
  std::chrono::milliseconds heartbeat{1000};
  std::chrono::milliseconds lease{10000};
  // A placement whose workers load nothing for so long has failed: a disk or a network hangs while heartbeats go on.
  std::chrono::milliseconds load_stall{120000};
  // Workers that start together are placed together.
  std::chrono::milliseconds settle{300};
  // Pause after a failure, doubled with each one up to the longest; forgotten after a minute of service or when a
  // worker joins. A change of the members is acted upon at once.
  std::chrono::milliseconds first_retry{500};
  std::chrono::milliseconds longest_retry{30000};
};

// A state machine without threads or I/O of its own; times are passed in. Owned by the cluster thread. Of each
// pipeline:
//
//   (none) --enough workers, and they fit--> LOADING --all loaded, first stage dialled--> SERVING
//      ^                                        |                                           |
//      +------------ a worker of the placement lost, a load or the pipeline failed --------+
//
// Workers that are in no pipeline become another one beside those that serve (PlanMore); what serves is given up for a
// new placement only if IsWorthMoving. Pipelines fail and are placed again one by one. A worker that is then still
// without layers runs the draft model, until a pipeline wants it.
class Cluster {
 public:
  // Borrows model and ends, also those of `draft`, which must outlive it.
  Cluster(const ServedModel& model, ClusterOptions options, PipelineEnds& ends, DraftPlacing draft = {});

  // Under which workers reach this coordinator, host:port. Call before the rest.
  void set_address(const std::string& address) { address_ = address; }
  // A worker wants to join. Refused by ending its session. `id` is new, ascending.
  void Join(uint64_t id, const v1::Hello& hello, std::shared_ptr<MemberSession> session, Time now);
  // A message after its Hello. `arrival` may lie behind the time of other calls.
  void OnMessage(uint64_t id, const v1::WorkerMessage& message, Time arrival, Time now);
  // Its stream has ended.
  void Leave(uint64_t id, const absl::Status& why, Time now);
  void OnPipelineBroken(uint64_t epoch, const absl::Status& why, Time now);
  // Does what is due: leases, placing, retries. Call after events and at least every `heartbeat`.
  void Tick(Time now);
  // Ends the pipeline and all sessions with kUnavailable.
  void Stop();

  // Without what the dispatcher knows.
  v1::ClusterState State() const;
  // The placement for the workers present. Errors: those of PlanCluster; kFailedPrecondition (no workers).
  absl::StatusOr<v1::PlanReply> PlanFor(int32_t context) const;

 private:
  // What a worker of a placement reported about its load.
  struct Load {
    uint64_t bytes_done = 0, bytes_total = 0;
    std::optional<v1::LoadDone> done;
  };
  // A pipeline.
  struct Placed {
    uint64_t epoch = 0;
    bool drafts = false;  // its model is the draft model
    Plan plan;
    std::vector<uint64_t> members;   // by stage
    std::map<uint64_t, Load> loads;  // of the members
    bool serving = false;
    Time served_since;
    Time last_progress;  // of any of its workers, while loading
  };

  std::vector<PlanDevice> Devices() const;
  absl::StatusOr<PlanInput> MakeInput(int32_t context) const;
  v1::Placement PlacementProto(const Plan& plan, const Placed* placed) const;
  Placed* FindPlaced(uint64_t epoch);
  const Placed* PlacedWith(uint64_t member) const;
  const Placed* Draft() const;  // null: no worker runs it
  // A pipeline that serves, or loads; the draft model is none.
  bool serves() const;
  bool is_loading() const;
  // Of all pipelines, with predictions as good as those of `input`'s candidates.
  std::vector<Plan> CurrentPlans(const PlanInput& input) const;
  // Ends the pipelines that are not in `better`, of which only the new ones are left.
  void GiveUpFor(std::vector<Plan>* better);
  const ServedModel& ModelOf(const Placed& placed) const { return placed.drafts ? *draft_.model : model_; }
  PipelineEnds& EndsOf(const Placed& placed) const { return placed.drafts ? *draft_.ends : ends_; }
  void MembershipChanged(Time now);
  void PlaceOrMove(Time now);
  void Place(Plan plan, bool drafts, Time now);
  // The draft model, on the fastest worker to spare.
  void PlaceDraft(Time now);
  v1::Place PlaceMessage(const Placed& placed, size_t stage) const;
  void OnLoadProgress(uint64_t id, const v1::LoadProgress& progress, Time now);
  void OnLoadDone(uint64_t id, const v1::LoadDone& done, Time now);
  void StartServing(Placed* placed, Time now);
  // Hops as they were measured while loading; workers are told where that changes what they should send.
  void ReviseHops(Placed* placed);
  void CheckLoading(Time now);
  // Ends the placement; its workers drop their layers.
  void TearDown(uint64_t epoch, const absl::Status& why);
  void TearDownAll(const absl::Status& why);
  // The same after a failure: tries again after a pause.
  void Fail(uint64_t epoch, const absl::Status& why, Time now);
  void Send(uint64_t id, v1::CoordinatorMessage message) const;
  std::string Detail() const;  // ClusterState.detail

  const ServedModel& model_;
  const ClusterOptions options_;
  PipelineEnds& ends_;
  const DraftPlacing draft_;
  std::string address_;
  Registry registry_;
  std::map<uint64_t, std::shared_ptr<MemberSession>> sessions_;
  MeasuredLinks links_;                // between members
  std::map<uint64_t, Placed> placed_;  // by epoch
  uint64_t next_epoch_;
  std::optional<Time> plan_at_;    // when to think about the placement again
  bool plan_when_loaded_ = false;  // then, too
  int failures_ = 0;               // since the last minute of service
  std::string problem_;            // why there is no placement, or one less, for people; empty: too few workers
  std::string explained_;          // what clients were told last
};

}  // namespace tandem::coordinator
