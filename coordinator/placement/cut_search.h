// The exact part of placement: the fastest way to cut the layers over workers in a given order.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "coordinator/placement/cost_model.h"

namespace tandem::coordinator {

struct CutRange {
  int32_t device = 0;
  int32_t first_layer = 0, end_layer = 0;
};

struct Cut {
  std::vector<CutRange> ranges;  // in layer order, none empty
  double decode_s = 0;           // of a token: the stages and the hops between them
};

// What a cut must respect.
struct CutLimits {
  int32_t num_pages = 0;  // KV pages on every stage, for memory
  int32_t min_stages = 1;
  double max_busy_s = std::numeric_limits<double>::infinity();  // BusySeconds of every stage
};

// Dynamic programming: the best cut of the first l layers over the first i workers of `order` (indices into the
// devices, each at most once), where a worker takes a range or nothing. O(workers * layers^2 * min_stages). Nothing if
// no cut respects the limits.
std::optional<Cut> FindFastestCut(const CostModel& costs, const std::vector<int32_t>& order, const CutLimits& limits);

}  // namespace tandem::coordinator
