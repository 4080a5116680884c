// The cluster's state as tables for people.
#pragma once

#include <string>

#include "coordinator/placement/planner.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::cli {

std::string FormatState(const v1::ClusterState& state);
// A placement as the coordinator reports it, for coordinator::FormatPlan; chunk_s and max_step_tokens are not known.
coordinator::Plan PlanFromProto(const v1::Placement& placement);

}  // namespace tandem::cli
