// The cluster's state and placements as tables for people.
#pragma once

#include <cstdint>
#include <string>

#include "tandem/v1/cluster.pb.h"

namespace tandem::cli {

std::string FormatState(const v1::ClusterState& state);
std::string FormatPlacement(const v1::Placement& placement);
// "1.50 GiB", "7.3 MiB", "512 B".
std::string FormatBytes(uint64_t bytes);

}  // namespace tandem::cli
