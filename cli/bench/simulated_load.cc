#include "cli/bench/simulated_load.h"

#include <cmath>
#include <utility>
#include <vector>

#include "coordinator/dispatcher.h"
#include "coordinator/simulation/pipeline_simulation.h"
#include "coordinator/simulation/planned_pipeline.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

using coordinator::SimulatedAnswer;
using coordinator::SimulatedStep;

uint64_t Microseconds(double seconds) { return static_cast<uint64_t>(std::llround(seconds * 1e6)); }

// Writes down what bench would see.
class Recorder : public coordinator::SimulationObserver {
 public:
  explicit Recorder(const std::function<void(uint64_t, double)>& progress) : progress_(progress) {}

  void OnStep(const SimulatedStep& step) override {
    v1::StepTrace trace;
    trace.set_pipeline(static_cast<uint32_t>(step.pipeline));
    trace.set_planned_us(Microseconds(step.planned_s));
    trace.set_round_trip_us(Microseconds(step.round_trip_s));
    trace.set_prefill_tokens(step.prefill_tokens);
    trace.set_decode_tokens(step.decode_tokens);
    for (const coordinator::StageTime& stage : step.stages) {
      v1::StageTiming* timing = trace.add_stages();
      timing->set_queue_us(Microseconds(stage.queue_s));
      timing->set_compute_us(Microseconds(stage.compute_s));
    }
    timeline_.Add(trace);
    progress_(records_.size(), step.planned_s);
  }

  void OnAnswer(SimulatedAnswer answer) override {
    RequestRecord record;
    record.due_s = record.sent_s = answer.due_s;
    record.first_token_s = answer.first_token_s;
    record.end_s = answer.end_s;
    record.prompt_tokens = answer.request.prompt_tokens;
    record.cached_tokens = answer.cached_tokens;
    record.wanted_tokens = answer.request.answer_tokens;
    // Who is refused has no token.
    if (answer.status.ok()) record.answer_tokens = static_cast<uint32_t>(answer.gaps_s.size() + 1);
    record.gaps_s = std::move(answer.gaps_s);
    record.status = std::move(answer.status);
    records_.push_back(std::move(record));
  }

  SimulatedRun Take() { return {MakeReport(records_), std::move(timeline_)}; }

 private:
  const std::function<void(uint64_t, double)>& progress_;
  std::vector<RequestRecord> records_;
  StageTimeline timeline_;
};

absl::StatusOr<std::vector<coordinator::SimulatedRequest>> DrawRequests(const SimulatedLoad& load, int32_t context) {
  WorkloadOptions options;
  options.prompt_tokens = load.prompt_tokens;
  options.answer_tokens = load.answer_tokens;
  options.shared_prefix = load.shared_prefix;
  options.rate = load.rate;
  options.seed = load.seed;
  options.source.ids = {0};  // the simulation draws its own
  TANDEM_RETURN_IF_ERROR(Workload::CheckFits(options, static_cast<uint32_t>(context)));
  Workload workload(std::move(options));
  std::vector<coordinator::SimulatedRequest> requests;
  while (requests.size() < load.requests) {
    const std::optional<Arrival> arrival = workload.Next();
    requests.push_back({.at_s = arrival->at_s,
                        .prompt_tokens = arrival->request.ids().ids_size(),
                        .answer_tokens = static_cast<int32_t>(arrival->request.max_tokens())});
  }
  return requests;
}

}  // namespace

absl::StatusOr<SimulatedRun> Simulate(const coordinator::PlanInput& input, const coordinator::ClusterPlan& plan,
                                      const SimulatedLoad& load,
                                      const std::function<void(uint64_t, double)>& progress) {
  const coordinator::CostModel costs(input);
  coordinator::SimulationInput simulation;
  for (const coordinator::Plan& planned : plan.pipelines) {
    coordinator::SimulatedPipeline& pipeline = simulation.pipelines.emplace_back();
    pipeline.scheduler = coordinator::SchedulerConfigOf({.num_stages = static_cast<int32_t>(planned.stages.size()),
                                                         .num_pages = planned.num_pages,
                                                         .page_tokens = planned.page_tokens,
                                                         .max_step_tokens = planned.max_step_tokens,
                                                         .context = planned.context});
    pipeline.tokens_per_s = planned.tokens_per_s;
    pipeline.stages = coordinator::StageCostsOf(costs, planned);
    pipeline.links = coordinator::LinksOf(input, planned);
  }
  simulation.max_waiting = load.max_waiting;
  TANDEM_ASSIGN_OR_RETURN(simulation.requests, DrawRequests(load, plan.pipelines[0].context));
  simulation.shared_prefix = static_cast<int32_t>(load.shared_prefix);
  simulation.clients = load.rate > 0 ? 0 : load.clients;
  simulation.seed = load.seed;
  Recorder recorder(progress);
  TANDEM_RETURN_IF_ERROR(coordinator::SimulatePipelines(simulation, &recorder));
  return recorder.Take();
}

}  // namespace tandem::cli
