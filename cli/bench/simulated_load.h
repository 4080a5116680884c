// A load like tandem bench's, on pipelines that are planned and do not exist.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "cli/bench/load_report.h"
#include "cli/bench/report_text.h"
#include "cli/bench/stage_timeline.h"
#include "cli/bench/workload.h"
#include "coordinator/placement/cluster_plan.h"

namespace tandem::cli {

struct SimulatedLoad {
  LengthDistribution prompt_tokens, answer_tokens;
  uint32_t shared_prefix = 0;
  uint64_t requests = 32;
  int32_t clients = 1;        // closed loop
  double rate = 0;            // requests a second of an open loop; 0: closed
  int32_t max_waiting = 256;  // the coordinator's --max-waiting
  uint64_t seed = 1;          // times and lengths are those of tandem bench with this seed
};

struct SimulatedRun {
  LoadReport report;
  StageTimeline timeline;
};

// Runs `load` on `plan`, which was made from `input`. `progress` is told how many requests have ended and the time that
// has passed in the simulation. Errors: kInvalidArgument (requests that do not fit the context), those of
// coordinator::SimulatePipelines.
absl::StatusOr<SimulatedRun> Simulate(const coordinator::PlanInput& input, const coordinator::ClusterPlan& plan,
                                      const SimulatedLoad& load,
                                      const std::function<void(uint64_t ended, double seconds)>& progress);

}  // namespace tandem::cli
