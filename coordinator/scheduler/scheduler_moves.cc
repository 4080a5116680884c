// The scheduler's part that deals with other schedulers: what its pipeline has to do, and sequences that move.
#include <algorithm>
#include <utility>

#include "coordinator/scheduler/scheduler.h"

namespace tandem::coordinator {
namespace {

// Most answers end long before max_tokens: so many tokens are expected to come.
constexpr int64_t kExpectedAnswer = 256;

int64_t WorkLeft(const SequenceSpec& spec, int64_t to_compute, int64_t generated) {
  if (!spec.generates()) return to_compute;
  return to_compute + kDecodeWork * std::clamp<int64_t>(spec.max_tokens - generated, 0, kExpectedAnswer);
}

}  // namespace

Sequence Scheduler::Release(uint64_t id) {
  const auto it = sequences_.find(id);
  FallBack(&it->second);
  Sequence sequence = std::move(it->second);
  sequence.last_step = 0;
  shares_.Leave(sequence.spec.client);
  sequences_.erase(it);
  return sequence;
}

void Scheduler::Adopt(Sequence sequence) {
  shares_.Join(sequence.spec.client);
  const uint64_t id = sequence.spec.id;
  sequences_.emplace(id, std::move(sequence));
}

int64_t Scheduler::Backlog() const {
  int64_t work = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.state == SequenceState::kFinished) continue;
    work += WorkLeft(sequence.spec, std::max(0, sequence.pending()), sequence.generated_tokens());
  }
  return work;
}

int64_t Scheduler::WorkOf(const SequenceSpec& spec) {
  return WorkLeft(spec, static_cast<int64_t>(spec.prompt.size()), /*generated=*/0);
}

const Sequence* Scheduler::Youngest() const {
  for (auto it = sequences_.rbegin(); it != sequences_.rend(); ++it) {
    if (it->second.state != SequenceState::kFinished) return &it->second;
  }
  return nullptr;
}

int64_t Scheduler::WorkAnew(const Sequence& sequence) {
  return WorkLeft(sequence.spec, sequence.length(), sequence.generated_tokens());
}

int32_t Scheduler::KnownTokens(const SequenceSpec& spec) const {
  return spec.may_reuse() ? pages_.KnownTokens(spec.domain, spec.prompt) : 0;
}

const Sequence* Scheduler::Blocked(Time now) const {
  std::vector<const Sequence*> waiting;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.state == SequenceState::kWaiting) waiting.push_back(&sequence);
  }
  std::sort(waiting.begin(), waiting.end(),
            [this, now](const Sequence* a, const Sequence* b) { return GoesBefore(*a, *b, now); });
  // As Admit will do, when the next step is planned.
  int32_t reserve = running();
  for (const Sequence* sequence : waiting) {
    if (!pages_.CanBegin(reserve, *sequence)) return sequence;
    reserve += pages_.PagesFor(sequence->length()) + 1;
  }
  return nullptr;
}

bool Scheduler::HasRoomFor(const Sequence& sequence) const {
  return active_ && waiting() == 0 && CheckFits(sequence.spec).ok() && pages_.CanBegin(/*reserve=*/running(), sequence);
}

}  // namespace tandem::coordinator
