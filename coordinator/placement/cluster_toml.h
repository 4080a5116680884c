// A cluster described in a file, for planning without one.
//
//   [[worker]]
//   name = "desk"
//   memory_gib = 24
//   bandwidth_gbs = 45      # gigabytes a second
//   int8_tops = 1.6         # 10^12 operations a second, a multiply-add counting as two
//   count = 20              # optional: so many of them, "desk-1" to "desk-20"
//
//   [link]                  # optional; each key too
//   latency_ms = 0.15       # one way
//   bandwidth_mbps = 940    # megabits a second
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/placement/cost_model.h"

namespace tandem::coordinator {

struct ClusterDescription {
  std::vector<PlanDevice> devices;
  LinkCost link;
};

// Most workers of a description.
inline constexpr int64_t kMaxDescribedWorkers = 4096;

// Errors: kInvalidArgument (syntax, unknown or missing key, a value that is no positive number, no worker or too
// many, a name twice; with the line).
absl::StatusOr<ClusterDescription> ParseClusterToml(absl::string_view text);

}  // namespace tandem::coordinator
