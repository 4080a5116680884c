// The cluster's state as tables for people.
#pragma once

#include <string>

#include <google/protobuf/repeated_field.h>

#include "coordinator/placement/cluster_plan.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::cli {

std::string FormatState(const v1::ClusterState& state);
// Placements as the coordinator reports them, for coordinator::FormatClusterPlan; chunk_s, busy_s and max_step_tokens
// are not known.
coordinator::ClusterPlan PlanFromProto(const google::protobuf::RepeatedPtrField<v1::Placement>& pipelines,
                                       const google::protobuf::RepeatedPtrField<std::string>& unused);

}  // namespace tandem::cli
