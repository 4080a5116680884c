#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// Below this many tokens a prefill chunk reads the weights for too little work, so it is not cut finer for fairness or
// for the sake of more stages.
constexpr int32_t kMinChunkTokens = 64;

int32_t DivideUp(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Whether what is wanted of `sequence` comes with `slice`, the latest of it.
bool HasOutput(const Sequence& sequence, const PlannedSlice& slice) {
  switch (sequence.spec.output) {
    case engine::SliceOutput::kLogits:
    case engine::SliceOutput::kStateSum:
      return true;
    case engine::SliceOutput::kFirstState:
      return slice.position == 0;
    case engine::SliceOutput::kSample:
    case engine::SliceOutput::kLastState:
      return sequence.pending() == 0;
    case engine::SliceOutput::kNone:
      break;
  }
  return false;
}

}  // namespace

std::vector<uint64_t> Scheduler::Reset(const SchedulerConfig& config) {
  ReleaseAll();
  config_ = config;
  known_ = active_ = true;
  pages_ = PageAllocator(config.num_pages);
  last_step_ = 0;
  std::vector<uint64_t> misfits;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kFinished && !CheckFits(sequence.spec).ok()) misfits.push_back(id);
  }
  return misfits;
}

void Scheduler::Halt(bool interruption) {
  for (auto& [id, sequence] : sequences_) {
    if (interruption && sequence.in_flight > 0) ++sequence.interruptions;
  }
  ReleaseAll();
  active_ = false;
}

absl::Status Scheduler::Add(SequenceSpec spec, Time now) {
  if (!known_) return absl::UnavailableError("no pipeline has served yet");
  TANDEM_RETURN_IF_ERROR(CheckFits(spec));
  if (waiting() >= max_waiting_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(waiting(), " requests wait already, the limit is ", max_waiting_, ": retry later"));
  }
  Sequence sequence;
  sequence.tokens = spec.prompt;
  sequence.arrival = now;
  const uint64_t id = spec.id;
  sequence.spec = std::move(spec);
  if (!sequences_.emplace(id, std::move(sequence)).second) {
    return absl::InternalError(absl::StrCat("sequence ", id, " exists already"));
  }
  return absl::OkStatus();
}

void Scheduler::Remove(uint64_t id) {
  Finish(id, FinishReason::kStop);
  sequences_.erase(id);
}

void Scheduler::Finish(uint64_t id, FinishReason reason) {
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  FallBack(&it->second);
  it->second.state = SequenceState::kFinished;
  it->second.finish = reason;
}

std::optional<StepPlan> Scheduler::PlanStep(Time now) {
  if (!active_ || static_cast<int32_t>(in_flight_.size()) >= config_.num_stages) return std::nullopt;
  StepPlan plan;
  plan.step = last_step_ + 1;
  plan.planned = now;
  int32_t budget = config_.max_step_tokens;
  PlanDecodes(&plan, &budget);
  Admit();
  PlanPrefills(&plan, budget);
  if (plan.slices.empty()) return std::nullopt;
  for (const PlannedSlice& slice : plan.slices) {
    Sequence& sequence = sequences_.at(slice.sequence);
    if (!sequence.started) sequence.first_step = now;
    sequence.started = true;
  }
  last_step_ = plan.step;
  in_flight_.push_back(plan);
  return plan;
}

std::vector<SliceEvent> Scheduler::OnStepResult(std::span<const int32_t> tokens, Time now) {
  const StepPlan plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  std::vector<SliceEvent> events;
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    const PlannedSlice& slice = plan.slices[i];
    auto it = sequences_.find(slice.sequence);
    if (it == sequences_.end() || it->second.incarnation != slice.incarnation) continue;
    Sequence& sequence = it->second;
    --sequence.in_flight;
    if (sequence.state != SequenceState::kRunning || slice.output == engine::SliceOutput::kNone) continue;
    SliceEvent event = Complete(slice, &sequence, tokens[i], now);
    event.slice = i;
    events.push_back(event);
  }
  return events;
}

SliceEvent Scheduler::Complete(const PlannedSlice& slice, Sequence* sequence, int32_t token, Time now) {
  SliceEvent event;
  event.sequence = slice.sequence;
  if (!sequence->spec.generates()) {
    // A token sees only those before it, so nothing that follows changes the first one's state.
    const bool complete =
        slice.output == engine::SliceOutput::kFirstState || slice.position + slice.count == sequence->length();
    if (complete) event.finish = FinishReason::kComplete;
  } else {
    sequence->tokens.push_back(token);
    if (sequence->generated_tokens() == 1) sequence->first_token = now;
    sequence->last_token = now;
    const std::vector<int32_t>& stops = sequence->spec.stop_ids;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      event.finish = FinishReason::kStop;
    } else if (sequence->generated_tokens() >= sequence->spec.max_tokens) {
      event.finish = FinishReason::kLength;
    } else if (sequence->length() >= config_.context) {
      event.finish = FinishReason::kContext;
    }
  }
  if (event.finish != FinishReason::kNone) Finish(slice.sequence, event.finish);
  return event;
}

const Sequence* Scheduler::Find(uint64_t id) const {
  auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : &it->second;
}

int32_t Scheduler::Count(SequenceState state) const {
  return static_cast<int32_t>(std::count_if(sequences_.begin(), sequences_.end(),
                                            [state](const auto& entry) { return entry.second.state == state; }));
}

int32_t Scheduler::PagesFor(int32_t tokens) const { return DivideUp(tokens, config_.page_tokens); }

int32_t Scheduler::MostTokens(const SequenceSpec& spec) const {
  const int32_t prompt = static_cast<int32_t>(spec.prompt.size());
  if (!spec.generates()) return prompt;
  // The last token drawn is not computed any more.
  const int64_t all = int64_t{prompt} + spec.max_tokens;
  return static_cast<int32_t>(std::min<int64_t>(all, config_.context)) - 1;
}

absl::Status Scheduler::CheckFits(const SequenceSpec& spec) const {
  if (spec.prompt.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  if (spec.generates() && spec.max_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", spec.max_tokens, ", must be at least 1"));
  }
  const int64_t room = int64_t{config_.context} - (spec.generates() ? 1 : 0);
  if (static_cast<int64_t>(spec.prompt.size()) > room) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", spec.prompt.size(), " tokens; the context of ",
                                                   config_.context, " tokens has room for ", room));
  }
  const int32_t pages = PagesFor(MostTokens(spec));
  if (pages > config_.num_pages) {
    return absl::ResourceExhaustedError(absl::StrCat("the request may need ", MostTokens(spec), " tokens of KV cache, ",
                                                     pages, " pages; the pipeline has ", config_.num_pages,
                                                     ": shorten the prompt or lower max_tokens"));
  }
  return absl::OkStatus();
}

void Scheduler::FallBack(Sequence* sequence) {
  pages_.Release(&sequence->pages);
  sequence->scheduled = 0;
  sequence->in_flight = 0;
  ++sequence->incarnation;
  if (sequence->state == SequenceState::kRunning) sequence->state = SequenceState::kWaiting;
}

void Scheduler::ReleaseAll() {
  in_flight_.clear();
  for (auto& [id, sequence] : sequences_) FallBack(&sequence);
}

bool Scheduler::EnsureDecodePage(Sequence* sequence) {
  if (PagesFor(sequence->length()) <= static_cast<int32_t>(sequence->pages.size())) return true;
  while (!pages_.Allocate(1, &sequence->pages)) {
    // CheckFits promised that the sequence fits alone, so there is always a running one to take from.
    auto youngest = std::find_if(sequences_.rbegin(), sequences_.rend(),
                                 [](const auto& entry) { return entry.second.state == SequenceState::kRunning; });
    FallBack(&youngest->second);
    if (&youngest->second == sequence) return false;
  }
  return true;
}

void Scheduler::PlanDecodes(StepPlan* plan, int32_t* budget) {
  int32_t decoding = 0;
  std::vector<Sequence*> ready;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kRunning || !sequence.decoding()) continue;
    ++decoding;
    if (sequence.pending() == 1) ready.push_back(&sequence);
  }
  std::stable_sort(ready.begin(), ready.end(),
                   [](const Sequence* a, const Sequence* b) { return a->last_step < b->last_step; });
  const size_t most = std::min(*budget, DivideUp(decoding, config_.num_stages));
  if (ready.size() > most) ready.resize(most);
  // Oldest first, so that a sequence is never preempted after its slice was planned.
  std::sort(ready.begin(), ready.end(), [](const Sequence* a, const Sequence* b) { return a->spec.id < b->spec.id; });
  for (Sequence* sequence : ready) {
    if (sequence->state != SequenceState::kRunning || !EnsureDecodePage(sequence)) continue;
    AddSlice(plan, sequence, 1);
    --*budget;
  }
}

void Scheduler::Admit() {
  int32_t now_running = running();
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kWaiting) continue;
    const int32_t pages = PagesFor(sequence.length());
    // A page for each running sequence stays free, so that an admission does not cause a preemption at once.
    if (pages + now_running > pages_.free()) return;
    pages_.Allocate(pages, &sequence.pages);
    sequence.state = SequenceState::kRunning;
    ++now_running;
  }
}

void Scheduler::PlanPrefills(StepPlan* plan, int32_t budget) {
  std::vector<Sequence*> ready;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state == SequenceState::kRunning && !sequence.decoding() && sequence.pending() > 0) {
      ready.push_back(&sequence);
    }
  }
  if (config_.num_stages > 1) {
    budget = std::min(budget, std::max(kMinChunkTokens, config_.max_step_tokens / config_.num_stages));
  }
  int32_t logit_rows = config_.max_logit_rows;
  int32_t left = static_cast<int32_t>(ready.size());
  for (Sequence* sequence : ready) {
    const int32_t share = std::max(kMinChunkTokens, DivideUp(budget, left--));
    int32_t count = std::min({sequence->pending(), share, budget});
    if (sequence->spec.output == engine::SliceOutput::kLogits) {
      count = std::min(count, logit_rows);
      logit_rows -= count;
    }
    if (count <= 0) continue;
    budget -= count;
    AddSlice(plan, sequence, count);
  }
}

void Scheduler::AddSlice(StepPlan* plan, Sequence* sequence, int32_t count) {
  PlannedSlice slice;
  slice.sequence = sequence->spec.id;
  slice.position = sequence->scheduled;
  slice.count = count;
  slice.incarnation = sequence->incarnation;
  sequence->scheduled += count;
  if (HasOutput(*sequence, slice)) slice.output = sequence->spec.output;
  slice.pages.assign(sequence->pages.begin(), sequence->pages.begin() + PagesFor(sequence->scheduled));
  ++sequence->in_flight;
  sequence->last_step = plan->step;
  plan->slices.push_back(std::move(slice));
}

}  // namespace tandem::coordinator
