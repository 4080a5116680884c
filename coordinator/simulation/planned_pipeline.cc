#include "coordinator/simulation/planned_pipeline.h"

#include "engine/quant/activation_format.h"

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
  std::vector<SimulatedLink> links = {ends};
  for (size_t i = 0; i + 1 < plan.stages.size(); ++i) {
    const LinkCost& link = LinkBetween(input, plan.stages[i].name, plan.stages[i + 1].name);
    const uint64_t bytes = engine::ActivationBytes(plan.stages[i].sends, static_cast<uint64_t>(input.hidden));
    links.push_back({link.latency_s, link.bytes_per_s, static_cast<double>(bytes)});
  }
  links.push_back(ends);
  return links;
}

}  // namespace tandem::coordinator
