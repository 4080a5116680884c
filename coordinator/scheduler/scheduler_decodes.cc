// The scheduler's part that plans decodes: which, in which steps, and with how many guesses.
#include <algorithm>
#include <utility>

#include "coordinator/scheduler/scheduler.h"

namespace tandem::coordinator {
namespace {

// Stages may wait this part of their time for steps that are between stages before decodes are dealt out to one more.
constexpr double kMaxWireShare = 0.1;
// With less room than for so many guesses of each, a step is full enough to be slowed by them.
constexpr int32_t kMinGuesses = 3;

int32_t DivideUp(int32_t a, int32_t b) { return (a + b - 1) / b; }

}  // namespace

int32_t Scheduler::DecodeGroups() const {
  const int32_t more = times_.wire_share() > kMaxWireShare * config_.num_stages ? 1 : 0;
  return std::min(config_.num_stages + more, config_.max_in_flight);
}

bool Scheduler::EnsureDecodePage(Sequence* sequence, Time now) {
  if (pages_.PagesFor(sequence->length()) <= static_cast<int32_t>(sequence->pages.size())) return true;
  while (!pages_.AddPage(sequence)) {
    // CheckFits promised that the sequence fits alone, so there is always a running one to take from.
    Sequence* last = nullptr;
    for (auto& [id, other] : sequences_) {
      if (other.state != SequenceState::kRunning) continue;
      if (last == nullptr || other.spec.priority <= last->spec.priority) last = &other;
    }
    FallBack(last);
    last->waiting_since = now;
    if (last == sequence) return false;
  }
  return true;
}

void Scheduler::PlanDecodes(StepPlan* plan, int32_t* budget, Time now) {
  const auto decodes = std::count_if(in_flight_.begin(), in_flight_.end(), [](const StepPlan& step) {
    return std::any_of(step.slices.begin(), step.slices.end(), [](const PlannedSlice& slice) { return slice.decode; });
  });
  if (decodes >= DecodeGroups()) return;  // or sequences would stay dealt out to more steps for good
  const auto decoding = std::count_if(sequences_.begin(), sequences_.end(), [](const auto& entry) {
    return entry.second.state == SequenceState::kRunning && entry.second.decoding();
  });
  const int32_t share = DivideUp(static_cast<int32_t>(decoding), DecodeGroups());
  const int32_t guesses_each = GuessesEach(share);
  const bool stages_idle = decoding < DecodeGroups();
  std::vector<Sequence*> ready;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kRunning || !sequence.decoding()) continue;
    const bool goes_on = sequence.pending() == 1;
    if (goes_on || stages_idle) GuessOn(guesses_each, share, now, &sequence);
    const bool has_slice = goes_on ? !sequence.guesses.waits_for_draft() : stages_idle && sequence.unsent_guesses() > 0;
    if (has_slice) ready.push_back(&sequence);
  }
  std::stable_sort(ready.begin(), ready.end(),
                   [](const Sequence* a, const Sequence* b) { return a->last_step < b->last_step; });
  const size_t most = std::min(*budget, share);
  if (ready.size() > most) ready.resize(most);
  // Those that are preempted last come first, so that a sequence is never preempted after its slice was planned.
  std::sort(ready.begin(), ready.end(), [](const Sequence* a, const Sequence* b) {
    return a->spec.priority != b->spec.priority ? a->spec.priority > b->spec.priority : a->spec.id < b->spec.id;
  });
  int32_t others = static_cast<int32_t>(ready.size());
  for (Sequence* sequence : ready) {
    --others;  // each of which has room for one token at least
    if (sequence->state != SequenceState::kRunning) continue;
    const int32_t count = std::max(0, sequence->pending());
    if (count > 0 && !EnsureDecodePage(sequence, now)) continue;
    const int32_t guesses = GuessesToSend(std::min(guesses_each, *budget - count - others), sequence);
    if (count + guesses == 0) continue;
    *budget -= count + guesses;
    AddSlice(plan, sequence, count, guesses);
  }
}

int32_t Scheduler::GuessesEach(int32_t decodes) const {
  const int32_t room = config_.max_guessed_tokens - decodes;
  if (decodes == 0 || room < kMinGuesses * decodes) return 0;
  const bool prompts_wait = std::any_of(sequences_.begin(), sequences_.end(), [](const auto& entry) {
    const Sequence& sequence = entry.second;
    return sequence.state == SequenceState::kWaiting ||
           (sequence.state == SequenceState::kRunning && !sequence.decoding() && sequence.pending() > 0);
  });
  return prompts_wait ? 0 : room / decodes;
}

void Scheduler::GuessOn(int32_t most, int32_t decodes, Time now, Sequence* sequence) {
  Guesses& guesses = sequence->guesses;
  if (!sequence->spec.may_guess || guesses.awaits_draft() || sequence->unsent_guesses() > 0) return;
  // The token that is drawn behind the last right guess counts too.
  const int32_t left =
      std::min(sequence->spec.max_tokens - sequence->generated_tokens(), config_.context - sequence->length());
  most = std::min(most, left - 1 - guesses.size());
  if (most <= 0) return;
  std::vector<double> seconds;  // as if the others had as many guesses
  for (int32_t count = 0; count <= most; ++count) seconds.push_back(times_.DecodeSeconds(decodes * (1 + count)));
  if (guesses.LookUp(sequence->tokens, seconds) || !config_.drafts) return;
  for (int32_t count = 0; count <= most; ++count) seconds[count] += draft_token_s_ * count;
  if (draft_token_s_ <= 0 || times_.decode_s() <= 0) seconds.clear();
  const int32_t count = guesses.ToDraft(most, seconds);
  if (count == 0) return;
  draft_requests_.push_back({.sequence = sequence->spec.id,
                             .branch = guesses.branch(),
                             .position = sequence->length() + guesses.size(),
                             .count = count,
                             .asked = now});
  // What is known could go ahead, but then what is drafted waits behind it at the first stage.
  const bool soon = draft_token_s_ > 0 && guesses.drafts() > 0 && draft_token_s_ * count <= times_.decode_s();
  guesses.Await(/*wait=*/soon);
}

std::vector<DraftRequest> Scheduler::TakeDraftRequests() {
  std::vector<DraftRequest> requests = std::exchange(draft_requests_, {});
  // Whoever gave up its pages since has no guesses any more that a draft could follow.
  std::erase_if(requests, [this](const DraftRequest& request) {
    const Sequence* sequence = Find(request.sequence);
    return sequence == nullptr || sequence->guesses.branch() != request.branch;
  });
  return requests;
}

void Scheduler::OnDraft(const DraftRequest& request, std::span<const int32_t> tokens, Time now) {
  const auto it = sequences_.find(request.sequence);
  if (it == sequences_.end()) return;
  Sequence& sequence = it->second;
  if (sequence.guesses.branch() != request.branch || !sequence.guesses.awaits_draft()) return;
  // The first draft of a sequence reads its prompt.
  if (sequence.guesses.drafts() > 0 && !tokens.empty()) {
    Average(SecondsBetween(request.asked, now) / static_cast<double>(tokens.size()), &draft_token_s_);
  }
  if (tokens.empty()) return sequence.guesses.StopDrafting();
  sequence.guesses.OnDraft(tokens, sequence.TokensOf(request.position, sequence.length() + sequence.guesses.size()));
}

int32_t Scheduler::GuessesToSend(int32_t most, Sequence* sequence) {
  int32_t count = std::clamp(sequence->unsent_guesses(), 0, most);
  for (; count > 0; --count) {
    const int32_t tokens = sequence->length() + sequence->sent_guesses() + count;
    while (pages_.PagesFor(tokens) > static_cast<int32_t>(sequence->pages.size())) {
      // What others will need comes first.
      const bool spare = pages_.pool().free() + pages_.pool().idle() > running();
      if (!spare || !pages_.AddPage(sequence)) break;
    }
    if (pages_.PagesFor(tokens) <= static_cast<int32_t>(sequence->pages.size())) break;
  }
  return count;
}

}  // namespace tandem::coordinator
