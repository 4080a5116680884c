#include "coordinator/scheduler/pipeline_choice.h"

#include <limits>

namespace tandem::coordinator {

size_t ChoosePipeline(std::span<const PipelineOffer> offers, const SequenceSpec& spec) {
  if (offers.size() == 1) return 0;
  size_t best = 0;
  double best_s = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < offers.size(); ++i) {
    const Scheduler& scheduler = *offers[i].scheduler;
    if (!scheduler.CheckFits(spec).ok()) continue;
    const int64_t work = scheduler.Backlog() + Scheduler::WorkOf(spec) - scheduler.KnownTokens(spec);
    const double seconds = static_cast<double>(work) / offers[i].tokens_per_s;
    if (seconds < best_s) best = i, best_s = seconds;
  }
  return best;
}

std::optional<PipelineMove> FindMove(std::span<const PipelineOffer> offers, Time now) {
  if (offers.size() == 1) return std::nullopt;
  for (size_t from = 0; from < offers.size(); ++from) {
    const Sequence* const blocked = offers[from].scheduler->Blocked(now);
    if (blocked == nullptr) continue;
    for (size_t to = 0; to < offers.size(); ++to) {
      if (offers[to].scheduler->HasRoomFor(*blocked)) return PipelineMove{blocked->spec.id, from, to};
    }
  }
  return std::nullopt;
}

}  // namespace tandem::coordinator
