#include "coordinator/dispatcher.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/context_shift.h"
#include "coordinator/scheduler/retry_hint.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// While sequences wait for a pipeline the thread looks at the clock this often.
constexpr std::chrono::milliseconds kExpiryInterval{200};

absl::Status StoppedError() { return absl::UnavailableError("the coordinator is stopping"); }

}  // namespace

Dispatcher::Dispatcher(Options options)
    : options_(std::move(options)),
      clock_(options_.clock != nullptr ? *options_.clock : steady_clock_),
      why_detached_(absl::UnavailableError("no pipeline has served yet")),
      thread_([this] { Run(); }) {}

Dispatcher::~Dispatcher() { Stop(); }

void Dispatcher::Post(Input input) {
  inputs_.push_back(std::move(input));
  wake_.NotifyOne();
}

void Dispatcher::AttachPipeline(PipelineSpec spec, std::unique_ptr<links::StepLink> first) {
  {
    MutexLock lock(&mu_);
    if (!stopping_) {
      context_ = spec.context;
      expired_ = false;
      return Post(Attach{spec, std::move(first)});
    }
  }
  first->Close();
}

void Dispatcher::DetachPipeline(uint64_t epoch, absl::Status why) {
  MutexLock lock(&mu_);
  Post(Detach{epoch, std::move(why)});
}

void Dispatcher::SetReason(const std::string& why) {
  MutexLock lock(&mu_);
  why_detached_ = absl::UnavailableError(why);
}

void Dispatcher::OnFrame(std::unique_ptr<v1::StepFrame> frame) {
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    int& queued = queued_frames_[frame->epoch()];
    if (queued >= kMaxQueuedFrames) {
      overflowed_.insert(frame->epoch());  // few more than num_stages steps are in flight: no honest worker comes here
    } else {
      ++queued;
      inputs_.push_back(std::move(frame));
    }
  }
  wake_.NotifyOne();  // without the lock: on a core that both threads share, the woken one would run into it
}

absl::Status Dispatcher::CheckTask(const GenerationTask& task) const {
  if (stopping_) return StoppedError();
  if (expired_) {
    return absl::UnavailableError(absl::StrCat("no pipeline is serving: ", why_detached_.message()));
  }
  if (task.prompt.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  for (int32_t token : task.prompt) {
    if (token >= 0 && token < options_.vocab) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", token, " is outside the vocabulary of ", options_.vocab));
  }
  const bool generates = task.output == engine::SliceOutput::kSample;
  if (generates && task.max_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", task.max_tokens, ", must be at least 1"));
  }
  const size_t room = context_ - (generates ? 1 : 0);
  if (task.prompt.size() > room) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", task.prompt.size(), " tokens; the context of ",
                                                   context_, " tokens has room for ", room));
  }
  if (task.shift) TANDEM_RETURN_IF_ERROR(CheckKeep(task.keep, context_));
  if (queued_tasks_ >= options_.max_waiting) {
    return Overloaded(absl::StrCat("more than ", options_.max_waiting, " requests arrive at once"), kMinRetrySeconds);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Dispatcher::Submit(GenerationTask task, GenerationListener* listener) {
  const Time arrival = clock_.Now();
  MutexLock lock(&mu_);
  TANDEM_RETURN_IF_ERROR(CheckTask(task));
  const uint64_t id = next_id_++;
  live_.insert(id);
  ++queued_tasks_;
  Post(NewTask{id, std::move(task), listener, arrival});
  return id;
}

void Dispatcher::Cancel(uint64_t id) {
  MutexLock lock(&mu_);
  if (live_.erase(id) > 0) Post(CancelTask{id});
}

DispatcherStats Dispatcher::stats() const {
  MutexLock lock(&mu_);
  return stats_;
}

int32_t Dispatcher::context() const {
  MutexLock lock(&mu_);
  return context_;
}

void Dispatcher::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyOne();
  }
  MutexLock lock(&stop_mu_);
  if (thread_.joinable()) thread_.join();
  if (options_.drafter != nullptr) options_.drafter->Stop();
}

void Dispatcher::Run() {
  lanes_.push_back(std::make_unique<Lane>(0, options_.max_waiting));
  last_lane_ = lanes_.front().get();
  detached_at_ = clock_.Now();
  std::deque<Input> inputs;
  while (TakeInputs(&inputs)) {
    for (Input& input : inputs) {
      std::visit([this](auto& value) { Handle(std::move(value)); }, input);
    }
    inputs.clear();
    SendAllSteps();
    TellOfSteps();
    ExpireWithoutPipeline();
    Publish();
  }
  for (Input& input : inputs) {
    // Requests that came too late still get their last call.
    if (auto* task = std::get_if<NewTask>(&input)) task->listener->OnFinished(StoppedError(), GenerationResult{});
    if (auto* attach = std::get_if<Attach>(&input)) attach->link->Close();
  }
  EndAll(StoppedError());
  for (const auto& lane : lanes_) Close(lane.get(), StoppedError());
  Publish();
}

bool Dispatcher::TakeInputs(std::deque<Input>* inputs) {
  absl::flat_hash_set<uint64_t> overflowed;
  bool stopping = false;
  {
    MutexLock lock(&mu_);
    while (inputs_.empty() && !stopping_ && overflowed_.empty()) {
      if (!serves() && !expired_) {
        wake_.WaitFor(&mu_, kExpiryInterval);
        if (inputs_.empty()) break;  // to look at the clock
      } else {
        wake_.Wait(&mu_);
      }
    }
    inputs->swap(inputs_);
    queued_tasks_ = 0;
    queued_frames_.clear();
    overflowed.swap(overflowed_);
    stopping = stopping_;
  }
  for (uint64_t epoch : overflowed) {
    Break(FindLane(epoch),
          absl::InternalError(absl::StrCat("more than ", kMaxQueuedFrames, " frames arrived at once")));
  }
  return !stopping;
}

void Dispatcher::Handle(NewTask task) {
  SequenceSpec spec;
  spec.id = task.id;
  spec.prompt = task.task.prompt;
  spec.max_tokens = task.task.max_tokens;
  spec.stop_ids = task.task.stop_ids;
  spec.shift = task.task.shift;
  spec.keep = task.task.keep;
  spec.output = task.task.output;
  // What a guide or mirostat says of a token depends on the one before.
  spec.may_guess = task.task.guide == nullptr && task.task.sampling.mirostat() == 0;
  spec.client = task.task.client;
  spec.priority = task.task.priority;
  for (const engine::AdapterUse& use : task.task.adapters)
    absl::StrAppend(&spec.domain, use.adapter, "*", absl::Hex(std::bit_cast<uint32_t>(use.scale)), " ");
  Lane* const lane = ChooseLane(spec);
  const absl::StatusOr<std::optional<uint64_t>> added = lane->scheduler.Add(std::move(spec), task.arrival);
  tasks_[task.id] = Task{std::move(task.task), task.listener, lane};
  if (!added.ok()) return End(task.id, added.status());
  if (*added)
    End(**added, Overloaded("others have fewer requests waiting, or more urgent ones", lane->scheduler.RetrySeconds()));
}

void Dispatcher::Handle(CancelTask cancel) { End(cancel.id, absl::CancelledError("the generation was cancelled")); }

void Dispatcher::Handle(Drafted drafted) {
  const auto task = tasks_.find(drafted.request.sequence);
  if (task == tasks_.end()) return;
  // A draft model may have more tokens than the one that is served.
  const auto unknown = std::find_if(drafted.tokens.begin(), drafted.tokens.end(),
                                    [this](int32_t token) { return token < 0 || token >= options_.vocab; });
  const std::span<const int32_t> tokens(drafted.tokens.begin(), unknown);
  task->second.lane->scheduler.OnDraft(drafted.request, tokens, clock_.Now());
}

void Dispatcher::SendAllSteps() {
  for (bool again = true; again;) {
    again = false;
    Balance();
    // Where one breaks, its sequences are others' now.
    for (const auto& lane : lanes_) again = !SendSteps(lane.get()) || again;
  }
}

bool Dispatcher::SendSteps(Lane* lane) {
  while (lane->serves()) {
    const std::optional<StepPlan> plan = lane->scheduler.PlanStep(clock_.Now());
    AskForDrafts(lane);
    if (!plan) return true;
    if (absl::Status sent = lane->link->Send(FrameOf(*lane, *plan)); !sent.ok()) {
      Break(lane, sent);
      return false;
    }
  }
  return true;
}

std::unique_ptr<v1::StepFrame> Dispatcher::FrameOf(const Lane& lane, const StepPlan& plan) {
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(lane.spec.epoch);
  frame->set_step(plan.step);
  for (const PageCopy& copy : plan.copies) {
    v1::PageCopy* added = frame->add_copies();
    added->set_from(copy.from);
    added->set_to(copy.to);
  }
  for (const PlannedSlice& slice : plan.slices) {
    const GenerationTask& task = tasks_.at(slice.sequence).task;
    v1::Slice* added = AppendSlice(slice, *lane.scheduler.Find(slice.sequence), task.sampling, task.penalty_window,
                                   task.adapters, frame.get());
    added->set_dropped(added->dropped() + static_cast<uint64_t>(task.left_out));
    if (slice.output == engine::SliceOutput::kSample && task.guide != nullptr) task.guide->Describe(added);
  }
  return frame;
}

void Dispatcher::AskForDrafts(Lane* lane) {
  for (const DraftRequest& request : lane->scheduler.TakeDraftRequests()) {
    const GenerationTask& task = tasks_.at(request.sequence).task;
    DraftTask draft;
    const Sequence& sequence = *lane->scheduler.Find(request.sequence);
    draft.sequence = request.sequence;
    draft.tokens = sequence.TokensOf(0, request.position);
    draft.left_out = sequence.dropped;
    draft.sampling = task.sampling;
    draft.penalty_window = task.penalty_window;
    draft.count = request.count;
    options_.drafter->Draft(std::move(draft), [this, request](std::vector<int32_t> tokens) {
      MutexLock lock(&mu_);
      Post(Drafted{request, std::move(tokens)});
    });
  }
}

StepReport Dispatcher::Report(const Lane& lane, const StepPlan& plan, std::vector<StageTime> stages) const {
  StepReport report;
  report.pipeline = lane.number;
  report.epoch = lane.spec.epoch;
  report.step = plan.step;
  report.planned = plan.planned;
  for (const PlannedSlice& slice : plan.slices) {
    (slice.decode ? report.decode_tokens : report.prefill_tokens) += slice.count;
  }
  report.stages = std::move(stages);
  report.first_wire_s = lane.link->stats().last_wire_s;
  report.round_trip_s = SecondsBetween(plan.planned, clock_.Now());
  return report;
}

void Dispatcher::TellOfSteps() {
  for (uint64_t id : told_tokens_) {
    if (const auto it = tasks_.find(id); it != tasks_.end()) it->second.listener->OnStepsSent();
  }
  told_tokens_.clear();
  for (const StepReport& report : reports_) options_.observer->OnStep(report);
  reports_.clear();
}

void Dispatcher::End(uint64_t id, const absl::Status& status) {
  auto it = tasks_.find(id);
  if (it == tasks_.end()) return;
  Task task = std::move(it->second);
  tasks_.erase(it);
  GenerationResult result;
  result.prompt_tokens = static_cast<int32_t>(task.task.prompt.size());
  Scheduler& scheduler = task.lane->scheduler;
  if (const Sequence* sequence = scheduler.Find(id); sequence != nullptr) {
    result.reason = sequence->finish;
    result.generated_tokens = sequence->generated_tokens();
    result.shifts = sequence->shifts;
    result.cached_tokens = sequence->cached_tokens;
    result.guessed_tokens = sequence->guesses.guessed();
    result.right_guesses = sequence->guesses.right();
    if (sequence->started) result.queue_s = SecondsBetween(sequence->arrival, sequence->first_step);
    if (result.generated_tokens > 0) {
      result.prefill_s = SecondsBetween(sequence->first_step, sequence->first_token);
      result.decode_s = SecondsBetween(sequence->first_token, sequence->last_token);
    }
  }
  scheduler.Remove(id);
  {
    MutexLock lock(&mu_);
    live_.erase(id);
  }
  if (options_.observer != nullptr) {
    options_.observer->OnFinished(status.code(), result);
  }
  task.listener->OnFinished(status, result);
}

void Dispatcher::EndAll(const absl::Status& status) {
  while (!tasks_.empty()) End(tasks_.begin()->first, status);
}

void Dispatcher::Publish() {
  DispatcherStats stats;
  stats.bytes_in = bytes_in_;
  stats.bytes_out = bytes_out_;
  for (const auto& lane : lanes_) {
    stats.running += lane->scheduler.running();
    stats.waiting += lane->scheduler.waiting();
    if (!lane->serves()) continue;
    ++stats.pipelines;
    stats.epoch = std::max(stats.epoch, lane->spec.epoch);
    stats.kv_pages_used += lane->scheduler.pages_used();
    stats.kv_pages_idle += lane->scheduler.pages_idle();
    stats.kv_pages_total += lane->scheduler.pages_total();
    stats.bytes_out += lane->link->stats().bytes;
  }
  MutexLock lock(&mu_);
  stats_ = stats;
}

}  // namespace tandem::coordinator
