#include "coordinator/scheduler/pipeline_choice.h"

#include <limits>

namespace tandem::coordinator {
namespace {

constexpr double kLast = 1e30;  // seconds

double SecondsOfWork(const PipelineOffer& offer, int64_t more) {
  return static_cast<double>(offer.scheduler->Backlog() + more) / offer.tokens_per_s;
}

}  // namespace

size_t ChoosePipeline(std::span<const PipelineOffer> offers, const SequenceSpec& spec) {
  if (offers.size() == 1) return 0;
  size_t best = 0;
  double best_s = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < offers.size(); ++i) {
    const Scheduler& scheduler = *offers[i].scheduler;
    if (!scheduler.CheckFits(spec).ok()) continue;
    const int64_t own = Scheduler::WorkOf(spec) - scheduler.KnownTokens(spec);
    const double seconds = SecondsOfWork(offers[i], own) + (scheduler.full() ? kLast : 0);
    if (seconds < best_s) best = i, best_s = seconds;
  }
  return best;
}

std::optional<PipelineMove> FindShare(std::span<const PipelineOffer> offers) {
  size_t most = 0, least = 0;
  for (size_t i = 1; i < offers.size(); ++i) {
    if (SecondsOfWork(offers[i], 0) > SecondsOfWork(offers[most], 0)) most = i;
    if (SecondsOfWork(offers[i], 0) < SecondsOfWork(offers[least], 0)) least = i;
  }
  if (most == least) return std::nullopt;
  const Sequence* const youngest = offers[most].scheduler->Youngest();
  const Scheduler& to = *offers[least].scheduler;
  if (youngest == nullptr || to.full() || !to.CheckFits(youngest->spec).ok()) return std::nullopt;
  if (SecondsOfWork(offers[least], Scheduler::WorkAnew(*youngest)) >= SecondsOfWork(offers[most], 0)) {
    return std::nullopt;
  }
  return PipelineMove{youngest->spec.id, most, least};
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
