#include "coordinator/placement/cut_search.h"

#include <algorithm>

namespace tandem::coordinator {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

// Best times by workers considered, layers covered and stages used (capped at min_stages), with where each came from.
class Table {
 public:
  Table(int32_t workers, int32_t layers, int32_t stages)
      : layers_(layers), stages_(stages), cells_(size_t(workers + 1) * (layers + 1) * (stages + 1)) {}

  struct Cell {
    double seconds = kImpossible;
    int32_t from_layer = 0;  // equal to the cell's own: the worker takes nothing
    int32_t from_stages = 0;
  };
  Cell& At(int32_t worker, int32_t layer, int32_t stages) {
    return cells_[(size_t(worker) * (layers_ + 1) + layer) * (stages_ + 1) + stages];
  }

 private:
  const int32_t layers_, stages_;
  std::vector<Cell> cells_;
};

void Offer(Table::Cell* cell, double seconds, int32_t from_layer, int32_t from_stages) {
  if (seconds < cell->seconds) *cell = {seconds, from_layer, from_stages};
}

}  // namespace

std::optional<Cut> FindFastestCut(const CostModel& costs, const std::vector<int32_t>& order, const CutLimits& limits) {
  const int32_t workers = static_cast<int32_t>(order.size());
  const int32_t layers = costs.layers(), stages = limits.min_stages;
  Table table(workers, layers, stages);
  table.At(0, 0, 0).seconds = 0;
  for (int32_t worker = 0; worker < workers; ++worker) {
    const int32_t device = order[worker];
    for (int32_t first = 0; first <= layers; ++first) {
      for (int32_t used = 0; used <= stages; ++used) {
        const double before = table.At(worker, first, used).seconds;
        if (before == kImpossible) continue;
        Offer(&table.At(worker + 1, first, used), before, first, used);
        const double hop = first == 0 ? 0 : costs.DecodeHopSeconds();
        for (int32_t end = first + 1; end <= layers; ++end) {
          // A longer range is slower and larger still, but for the scratch of another place.
          if (costs.BusySeconds(device, first, end) > limits.max_busy_s) break;
          if (!costs.Fits(device, first, end, limits.num_pages)) continue;
          const double seconds = before + hop + costs.DecodeSeconds(device, first, end);
          Offer(&table.At(worker + 1, end, std::min(used + 1, stages)), seconds, first, used);
        }
      }
    }
  }
  if (table.At(workers, layers, stages).seconds == kImpossible) return std::nullopt;

  Cut cut;
  cut.decode_s = table.At(workers, layers, stages).seconds;
  int32_t layer = layers, used = stages;
  for (int32_t worker = workers; worker > 0; --worker) {
    const Table::Cell cell = table.At(worker, layer, used);
    if (cell.from_layer < layer) cut.ranges.push_back({order[worker - 1], cell.from_layer, layer});
    layer = cell.from_layer;
    used = cell.from_stages;
  }
  std::reverse(cut.ranges.begin(), cut.ranges.end());
  return cut;
}

}  // namespace tandem::coordinator
