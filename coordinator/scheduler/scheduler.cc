#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/context_shift.h"
#include "coordinator/scheduler/retry_hint.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// Below this many tokens a prefill chunk reads the weights for too little work, so it is not cut finer for fairness or
// for the sake of more stages.
constexpr int32_t kMinChunkTokens = 64;
// A pipeline fills and empties in this part of a prompt's time, a chunk for every stage but one.
constexpr int32_t kFillShare = 16;
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
      return sequence.pending() <= 0;
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
  pages_.Reset(config.num_pages, config.page_tokens);
  last_step_ = 0;
  times_ = StepTimes();
  std::vector<uint64_t> misfits;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kFinished && !CheckFits(sequence.spec).ok()) misfits.push_back(id);
  }
  return misfits;
}

void Scheduler::Halt(bool interruption) {
  for (auto& [id, sequence] : sequences_) {
    if (!interruption || sequence.in_flight == 0) continue;
    if (sequence.furthest > sequence.furthest_before) sequence.interruptions = 0;
    sequence.furthest_before = sequence.furthest;
    ++sequence.interruptions;
  }
  ReleaseAll();
  active_ = false;
}

double Scheduler::RetrySeconds() const {
  return std::clamp(starts_.seconds_between() * (waiting() + 1), kMinRetrySeconds, kMaxRetrySeconds);
}

absl::StatusOr<std::optional<uint64_t>> Scheduler::Add(SequenceSpec spec, Time now) {
  if (!known_) return absl::UnavailableError("no pipeline has served yet");
  TANDEM_RETURN_IF_ERROR(CheckFits(spec));
  std::optional<uint64_t> gives_way;
  if (waiting() >= max_waiting_) {
    const Sequence* least = LeastWanted(spec);
    if (least == nullptr) {
      return Overloaded(absl::StrCat(waiting(), " requests wait already, the limit is ", max_waiting_), RetrySeconds());
    }
    gives_way = least->spec.id;
  }
  Sequence sequence;
  sequence.tokens = spec.prompt;
  sequence.arrival = sequence.waiting_since = now;
  const uint64_t id = spec.id;
  sequence.spec = std::move(spec);
  const auto [added, is_new] = sequences_.emplace(id, std::move(sequence));
  if (!is_new) return absl::InternalError(absl::StrCat("sequence ", id, " exists already"));
  shares_.Join(added->second.spec.client);
  return gives_way;
}

Sequence* Scheduler::LeastWanted(const SequenceSpec& spec) {
  std::map<std::string, int32_t> waiting;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.state == SequenceState::kWaiting) ++waiting[sequence.spec.client];
  }
  Sequence* least = nullptr;
  const auto less_wanted = [&](const SequenceSpec& a, const SequenceSpec& b) {
    return a.priority != b.priority ? a.priority < b.priority : waiting[a.client] > waiting[b.client];
  };
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kWaiting || sequence.started) continue;
    if (least == nullptr || !less_wanted(least->spec, sequence.spec)) least = &sequence;
  }
  ++waiting[spec.client];
  return least != nullptr && less_wanted(least->spec, spec) ? least : nullptr;
}

void Scheduler::Remove(uint64_t id) {
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  Finish(id, FinishReason::kStop);
  shares_.Leave(it->second.spec.client);
  sequences_.erase(it);
}

void Scheduler::Finish(uint64_t id, FinishReason reason, int32_t unwanted) {
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  FallBack(&it->second);
  it->second.tokens.resize(it->second.tokens.size() - unwanted);
  it->second.state = SequenceState::kFinished;
  it->second.finish = reason;
}

std::optional<StepPlan> Scheduler::PlanStep(Time now) {
  if (!active_ || static_cast<int32_t>(in_flight_.size()) >= config_.max_in_flight) return std::nullopt;
  StepPlan plan;
  plan.step = last_step_ + 1;
  plan.planned = now;
  int32_t budget = config_.max_step_tokens;
  ShiftFull(now);
  Admit(now);  // first: a sequence that comes back may lack nothing but its latest token
  PlanDecodes(&plan, &budget, now);
  PlanPrefills(&plan, budget, now);
  if (plan.slices.empty()) return std::nullopt;
  for (const PlannedSlice& slice : plan.slices) {
    Sequence& sequence = sequences_.at(slice.sequence);
    if (!sequence.started) {
      sequence.first_step = now;
      starts_.Add(now);
    }
    sequence.started = true;
    pages_.Index(&sequence);  // for the steps after this one
  }
  plan.copies = std::exchange(copies_, {});
  last_step_ = plan.step;
  in_flight_.push_back(plan);
  return plan;
}

std::vector<SliceEvent> Scheduler::OnStepResult(std::span<const std::vector<int32_t>> drawn,
                                                std::span<const StageTime> stages, Time now) {
  const StepPlan plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  int32_t decodes = 0, prefills = 0;
  for (const PlannedSlice& slice : plan.slices) (slice.decode ? decodes : prefills) += slice.count;
  times_.Observe(decodes, prefills, stages, SecondsBetween(plan.planned, now));
  std::vector<SliceEvent> events;
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    const PlannedSlice& slice = plan.slices[i];
    auto it = sequences_.find(slice.sequence);
    if (it == sequences_.end() || it->second.incarnation != slice.incarnation) continue;
    Sequence& sequence = it->second;
    --sequence.in_flight;
    sequence.furthest = std::max(sequence.furthest, sequence.dropped + slice.position + slice.count);
    if (slice.branch != sequence.guesses.branch()) continue;
    if (sequence.state != SequenceState::kRunning || slice.output == engine::SliceOutput::kNone) continue;
    SliceEvent event = Complete(slice, &sequence, drawn[i], now);
    event.slice = i;
    events.push_back(event);
  }
  return events;
}

SliceEvent Scheduler::Complete(const PlannedSlice& slice, Sequence* sequence, std::span<const int32_t> drawn,
                               Time now) {
  SliceEvent event;
  event.sequence = slice.sequence;
  if (!sequence->spec.generates()) {
    const bool complete =
        slice.output == engine::SliceOutput::kFirstState || slice.position + slice.count == sequence->length();
    if (complete) event.finish = FinishReason::kComplete;
  } else {
    const std::vector<int32_t>& stops = sequence->spec.stop_ids;
    for (const int32_t token : drawn) {
      if (event.finish != FinishReason::kNone) break;
      const int32_t sent = sequence->sent_guesses();
      sequence->tokens.push_back(token);
      // What was computed of wrong guesses is overwritten.
      if (!sequence->guesses.OnDrawn(token, sent)) sequence->scheduled = sequence->length() - 1;
      ++event.tokens;
      if (sequence->generated_tokens() == 1) sequence->first_token = now;
      sequence->last_token = now;
      if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
        event.finish = FinishReason::kStop;
      } else if (sequence->generated_tokens() >= sequence->spec.max_tokens) {
        event.finish = FinishReason::kLength;
      } else if (sequence->length() >= config_.context) {
        if (sequence->spec.shift) break;  // before the next step, when what was drawn has been delivered
        event.finish = FinishReason::kContext;
      }
    }
    sequence->guesses.Learn();
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
  if (spec.shift) TANDEM_RETURN_IF_ERROR(CheckKeep(spec.keep, config_.context));
  const int32_t pages = pages_.PagesFor(MostTokens(spec));
  if (pages > config_.num_pages) {
    return absl::ResourceExhaustedError(absl::StrCat("the request may need ", MostTokens(spec), " tokens of KV cache, ",
                                                     pages, " pages; the pipeline has ", config_.num_pages,
                                                     ": shorten the prompt or lower max_tokens"));
  }
  return absl::OkStatus();
}

void Scheduler::FallBack(Sequence* sequence) {
  pages_.Release(sequence);
  sequence->guesses.Drop();
  sequence->in_flight = 0;
  ++sequence->incarnation;
  if (sequence->state == SequenceState::kRunning) sequence->state = SequenceState::kWaiting;
}

void Scheduler::ReleaseAll() {
  in_flight_.clear();
  copies_.clear();
  for (auto& [id, sequence] : sequences_) FallBack(&sequence);
  pages_.Reset(config_.num_pages, config_.page_tokens);  // what they hold is gone with the pipeline
}

bool Scheduler::GoesBefore(const Sequence& a, const Sequence& b, Time now) const {
  const auto patient = [now](const Sequence& sequence) { return now - sequence.waiting_since < kPatience; };
  if (patient(a) != patient(b)) return patient(b);
  if (patient(a)) {
    if (a.spec.priority != b.spec.priority) return a.spec.priority > b.spec.priority;
    const int64_t served_a = shares_.served(a.spec.client), served_b = shares_.served(b.spec.client);
    if (served_a != served_b) return served_a < served_b;
  }
  return a.spec.id < b.spec.id;
}

void Scheduler::SortByTurn(std::vector<Sequence*>* sequences, Time now) const {
  std::sort(sequences->begin(), sequences->end(),
            [this, now](const Sequence* a, const Sequence* b) { return GoesBefore(*a, *b, now); });
}

void Scheduler::Admit(Time now) {
  std::vector<Sequence*> ready;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state == SequenceState::kWaiting) ready.push_back(&sequence);
  }
  SortByTurn(&ready, now);
  int32_t now_running = running();
  for (Sequence* sequence : ready) {
    // A page for each running sequence stays free, so that an admission does not cause a preemption at once.
    if (!AdmitOne(/*reserve=*/now_running, sequence)) return;  // nobody overtakes who needs many pages
    ++now_running;
  }
}

bool Scheduler::AdmitOne(int32_t reserve, Sequence* sequence) {
  if (!pages_.Begin(reserve, sequence, &copies_)) return false;
  if (!sequence->started) sequence->cached_tokens = sequence->scheduled;
  sequence->to_compute = sequence->pending();
  sequence->state = SequenceState::kRunning;
  return true;
}

void Scheduler::ShiftFull(Time now) {
  for (auto& [id, sequence] : sequences_) {
    const bool goes_on = sequence.spec.shift && sequence.state != SequenceState::kFinished;
    if (!goes_on || sequence.length() < config_.context) continue;
    const bool ran = sequence.state == SequenceState::kRunning;
    FallBack(&sequence);
    DropOldest(config_.context, &sequence);
    if (!ran) continue;
    // It has just given up more pages than it takes now, but others may share some of them.
    sequence.waiting_since = now;
    AdmitOne(/*reserve=*/running(), &sequence);
  }
}

int32_t Scheduler::ChunkTokens(std::span<Sequence* const> ready) const {
  int64_t chunk = config_.max_step_tokens;
  if (config_.num_stages > 1) {
    int64_t all = 0;
    for (const Sequence* sequence : ready) all += sequence->to_compute;
    chunk = std::min(chunk, all / (int64_t{kFillShare} * (config_.num_stages - 1)));
  }
  const bool others_decode = std::any_of(sequences_.begin(), sequences_.end(), [](const auto& entry) {
    return entry.second.state == SequenceState::kRunning && entry.second.decoding();
  });
  if (others_decode) {
    const int32_t most = static_cast<int32_t>(chunk);
    chunk = std::min(most, times_.PrefillWithin(config_.target_stage_s, /*fallback=*/most));
  }
  return static_cast<int32_t>(std::max<int64_t>(chunk, kMinChunkTokens));
}

bool Scheduler::ComputedInStep(const StepPlan& plan, const Sequence& sequence) const {
  const int32_t end = sequence.scheduled + config_.page_tokens;
  if (!sequence.spec.may_reuse() || sequence.length() <= end) return false;
  return std::any_of(plan.slices.begin(), plan.slices.end(), [&](const PlannedSlice& slice) {
    // A decode fills no page, and what it guesses is not known to be the sequence's.
    if (slice.decode || slice.position > sequence.scheduled || slice.position + slice.count < end) return false;
    const Sequence& other = sequences_.at(slice.sequence);
    return other.spec.domain == sequence.spec.domain &&
           std::equal(sequence.tokens.begin(), sequence.tokens.begin() + end, other.tokens.begin());
  });
}

void Scheduler::PlanPrefills(StepPlan* plan, int32_t budget, Time now) {
  std::vector<Sequence*> ready;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.state != SequenceState::kRunning || sequence.decoding() || sequence.pending() <= 0) continue;
    // A token sees only those before it, so nothing that follows changes the first one's state.
    if (sequence.spec.output == engine::SliceOutput::kFirstState && sequence.scheduled > 0) continue;
    ready.push_back(&sequence);
  }
  SortByTurn(&ready, now);
  budget = std::min(budget, ChunkTokens(ready));
  int32_t logit_rows = config_.max_logit_rows;
  int32_t left = static_cast<int32_t>(ready.size());
  for (Sequence* sequence : ready) {
    if (budget <= 0) break;
    const int32_t share = std::max(kMinChunkTokens, DivideUp(budget, left--));
    pages_.CatchUp(sequence);
    if (!sequence->started) sequence->cached_tokens = sequence->scheduled;
    int32_t count = std::min({sequence->pending(), share, budget});
    // Up to the end of a page, from which sequences that begin alike can go on.
    const int32_t beyond = (sequence->scheduled + count) % config_.page_tokens;
    if (count < sequence->pending() && beyond < count) count -= beyond;
    if (sequence->spec.output == engine::SliceOutput::kLogits) {
      count = std::min(count, logit_rows);
      logit_rows -= count;
    }
    if (count <= 0 || ComputedInStep(*plan, *sequence)) continue;
    budget -= count;
    AddSlice(plan, sequence, count, /*guesses=*/0);
  }
}

void Scheduler::AddSlice(StepPlan* plan, Sequence* sequence, int32_t count, int32_t guesses) {
  PlannedSlice slice;
  slice.sequence = sequence->spec.id;
  slice.position = sequence->scheduled;
  slice.count = count + guesses;
  slice.incarnation = sequence->incarnation;
  slice.branch = sequence->guesses.branch();
  slice.decode = sequence->decoding();
  shares_.Charge(sequence->spec.client, slice.decode ? kDecodeWork * count : count);
  sequence->scheduled += count;
  if (HasOutput(*sequence, slice)) slice.output = sequence->spec.output;
  sequence->scheduled += guesses;
  // With nothing known in front of them, the first guess is what the others rest on.
  slice.guesses = sequence->TokensOf(slice.position + std::max(count, 1), sequence->scheduled);
  sequence->guesses.CountSent(guesses);
  slice.pages.assign(sequence->pages.begin(), sequence->pages.begin() + pages_.PagesFor(sequence->scheduled));
  ++sequence->in_flight;
  sequence->last_step = plan->step;
  plan->slices.push_back(std::move(slice));
}

}  // namespace tandem::coordinator
