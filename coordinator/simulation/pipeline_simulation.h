// The scheduler with pipelines that are modelled: what a load would be served with, without machines.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/placement/cost_model.h"
#include "coordinator/scheduler/scheduler.h"

namespace tandem::coordinator {

// What a stage takes for a step, in seconds.
using StageCost = std::function<double(const StepWork& work)>;

// A hop. Frames follow each other: one leaves when the one before it has left, and arrives latency_s later.
struct SimulatedLink {
  double latency_s = 0;
  double bytes_per_s = 1e12;
  double bytes_per_token = 0;  // of a frame
};

struct SimulatedRequest {
  double at_s = 0;  // since the load began, for an open loop
  int32_t prompt_tokens = 1, answer_tokens = 1;
};

struct SimulatedPipeline {
  SchedulerConfig scheduler;
  double tokens_per_s = 1;           // as in PipelineOffer
  std::vector<StageCost> stages;     // as many as the scheduler's config says
  std::vector<SimulatedLink> links;  // to the first stage, between stages, and back from the last one
};

struct SimulationInput {
  std::vector<SimulatedPipeline> pipelines;  // each request goes to one of them, as ChoosePipeline says
  int32_t max_waiting = 256;                 // requests that may wait for admission to each
  std::vector<SimulatedRequest> requests;
  int32_t shared_prefix = 0;  // the first tokens of every prompt are the same
  // Closed loop: so many clients, each of which sends the next of `requests` when its own has ended. 0: open loop,
  // each comes at its time, which ascend.
  int32_t clients = 0;
  uint64_t seed = 0;  // of the tokens; beyond the shared prefix no two prompts go on alike
};

// A request that ended. Seconds since the load began.
struct SimulatedAnswer {
  SimulatedRequest request;
  double due_s = 0, first_token_s = 0, end_s = 0;
  int32_t cached_tokens = 0;   // of the prompt, that others had computed
  std::vector<double> gaps_s;  // between one token and the next
  absl::Status status;         // kResourceExhausted: refused
};

struct SimulatedStep {
  int32_t pipeline = 0;
  double planned_s = 0, round_trip_s = 0;
  int32_t prefill_tokens = 0, decode_tokens = 0;
  std::vector<StageTime> stages;
};

// Called as virtual time passes.
class SimulationObserver {
 public:
  virtual ~SimulationObserver() = default;
  virtual void OnStep(const SimulatedStep& step) = 0;
  virtual void OnAnswer(SimulatedAnswer answer) = 0;
};

// Runs until the last request has ended. As in the cluster: what comes to the coordinator at the same time is taken
// together, and then as many steps are planned and sent as may be in flight; a stage executes one step at a time, in
// the order of arrival; what a step took on each stage comes back to the scheduler with its results. Pure: no I/O and
// no threads; the same input gives the same answers. Computing in the coordinator takes no time, and nothing is
// guessed (speculation), since tokens are random.
//
// O(stages + pipelines) a step, besides what the schedulers do.
//
// Errors: kInvalidArgument (no pipeline, stages or links not as many as the config says, a request without tokens,
// times that are not ascending, a cost or link that is no time; with the value), kInternal (the scheduler did not end a
// request, or kept pages: a bug).
absl::Status SimulatePipelines(const SimulationInput& input, SimulationObserver* observer);

}  // namespace tandem::coordinator
