#include "coordinator/simulation/planned_pipeline.h"

namespace tandem::coordinator {

std::vector<StageCost> StageCostsOf(const CostModel& costs, const Plan& plan) {
  std::vector<StageCost> stages;
  for (const StagePlan& stage : plan.stages) {
    stages.push_back([&costs, device = stage.device, first = stage.first_layer, end = stage.end_layer](
                         const StepWork& work) { return costs.StepSeconds(device, first, end, work); });
  }
  return stages;
}

std::vector<SimulatedLink> LinksOf(const PlanInput& input, const Plan& plan) {
  // To the first stage and from the last one go token ids only.
  const SimulatedLink ends = {input.link.latency_s, input.link.bytes_per_s, sizeof(int32_t)};
  const SimulatedLink between = {input.link.latency_s, input.link.bytes_per_s,
                                 static_cast<double>(sizeof(float)) * input.hidden};
  std::vector<SimulatedLink> links(plan.stages.size() + 1, between);
  links.front() = links.back() = ends;
  return links;
}

}  // namespace tandem::coordinator
