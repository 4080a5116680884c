// What all workers do: one pipeline, or several that hold the whole model each (replicas). Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/placement/planner.h"

namespace tandem::coordinator {

struct ClusterPlan {
  std::vector<Plan> pipelines;      // no worker is in two
  std::vector<std::string> unused;  // devices without layers
};

// The number of pipelines, at most input.max_pipelines (0: any), that is best for many requests: all pipelines' tokens
// a second, times the square root of the speed at which one reads a prompt alone. A longer pipeline reads it with more
// stages, and has more room for KV pages, since weights are held once; so more pipelines must be worth it
// (kPipelineGain). They are, where the layers do not cut into equal parts for so many workers (the head stays whole),
// where hops make a longer pipeline slow, or where workers are unlike. One client's decode stays as fast as with one
// pipeline (kDecodeSlack), and no pipeline decodes more slowly than kSlowestPipeline of the fastest.
//
// A heuristic: workers are dealt out to so many groups that are about equal in speed and memory, or each pipeline takes
// of the workers that are left what makes it fastest; PlanPlacement cuts each.
//
// Errors: those of PlanPlacement for all workers together.
absl::StatusOr<ClusterPlan> PlanCluster(const PlanInput& input);

// The same for the devices of `input` that are in none of `pipelines`, beside which the new ones are to serve; possibly
// none. Stage devices are indices into `input`.
std::vector<Plan> PlanMore(const PlanInput& input, const std::vector<Plan>& pipelines);

inline constexpr char kMaxPipelinesHelp[] =
    "Most pipelines that hold the whole model each and serve beside each other; 0: as many as serve best";
inline constexpr double kPipelineGain = 1.05;
inline constexpr double kSlowestPipeline = 0.2;

// Whether to move from `current` to `candidate`, which costs a reload: true if one client decodes more than 10 %
// faster, or if a prompt is read, or many requests are served, more than 25 % faster; and neither one client nor many
// requests become more than kDecodeSlack slower. Neither may be empty.
bool IsWorthMoving(const std::vector<Plan>& current, const std::vector<Plan>& candidate);

// Tables for people (FormatPlan), and what all serve together.
std::string FormatClusterPlan(const ClusterPlan& plan);

}  // namespace tandem::coordinator
