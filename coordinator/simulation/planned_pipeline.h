// A plan as the simulation takes it.
#pragma once

#include <vector>

#include "coordinator/placement/planner.h"
#include "coordinator/simulation/pipeline_simulation.h"

namespace tandem::coordinator {

// The stages and links of `plan`, which was made from `costs`' input. Costs are those of the planner, for steps of any
// size and with attention. `costs` must outlive the result.
std::vector<StageCost> StageCostsOf(const CostModel& costs, const Plan& plan);
std::vector<SimulatedLink> LinksOf(const PlanInput& input, const Plan& plan);

}  // namespace tandem::coordinator
