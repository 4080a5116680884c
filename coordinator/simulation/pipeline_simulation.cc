#include "coordinator/simulation/pipeline_simulation.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/pipeline_choice.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

using Nanos = std::chrono::nanoseconds;

constexpr uint64_t kVocabulary = 32000;
// A year: sums of such times fit 64 bits of nanoseconds.
constexpr double kMaxSeconds = 3.2e7;

bool IsTime(double seconds) { return seconds >= 0 && seconds <= kMaxSeconds; }
Nanos FromSeconds(double seconds) { return Nanos(std::llround(seconds * 1e9)); }
double Seconds(Nanos time) { return static_cast<double>(time.count()) * 1e-9; }

absl::Status CheckPipeline(const SimulatedPipeline& input) {
  const size_t stages = input.stages.size();
  if (stages == 0 || static_cast<int64_t>(stages) != input.scheduler.num_stages || input.links.size() != stages + 1) {
    return absl::InvalidArgumentError(absl::StrCat("a pipeline of ", input.scheduler.num_stages, " stages has ", stages,
                                                   " costs and ", input.links.size(),
                                                   " links: it needs one cost a stage, and one link more"));
  }
  for (const SimulatedLink& link : input.links) {
    if (!IsTime(link.latency_s) || !(link.bytes_per_s > 0) || !IsTime(link.bytes_per_token / link.bytes_per_s)) {
      return absl::InvalidArgumentError(absl::StrCat("a link of ", link.latency_s, " s, ", link.bytes_per_s,
                                                     " bytes/s and ", link.bytes_per_token, " bytes a token"));
    }
  }
  if (!(input.tokens_per_s > 0)) {
    return absl::InvalidArgumentError(absl::StrCat("a pipeline of ", input.tokens_per_s, " tokens a second"));
  }
  return absl::OkStatus();
}

absl::Status CheckInput(const SimulationInput& input) {
  if (input.pipelines.empty()) return absl::InvalidArgumentError("there is no pipeline to simulate");
  for (const SimulatedPipeline& pipeline : input.pipelines) TANDEM_RETURN_IF_ERROR(CheckPipeline(pipeline));
  if (input.shared_prefix < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a shared prefix of ", input.shared_prefix, " tokens"));
  }
  double before = 0;
  for (const SimulatedRequest& request : input.requests) {
    if (request.prompt_tokens < 1 || request.answer_tokens < 1) {
      return absl::InvalidArgumentError(absl::StrCat("a request of ", request.prompt_tokens, " and ",
                                                     request.answer_tokens, " tokens: it needs one of each"));
    }
    if (input.clients > 0) continue;
    if (!IsTime(request.at_s) || request.at_s < before) {
      return absl::InvalidArgumentError(
          absl::StrCat("a request at ", request.at_s, " s after one at ", before, " s: times ascend from 0"));
    }
    before = request.at_s;
  }
  return absl::OkStatus();
}

StepWork WorkOf(const StepPlan& plan) {
  StepWork work;
  for (const PlannedSlice& slice : plan.slices) {
    work.tokens += slice.count;
    work.outputs += slice.output == engine::SliceOutput::kSample ? 1 : 0;
    const int64_t end = int64_t{slice.position} + slice.count;
    work.keys += end;
    // Each token attends to itself and to all before it.
    work.pairs += int64_t{slice.count} * (slice.position + 1 + end) / 2;
  }
  return work;
}

struct Flying {
  Nanos end{0};  // when the results are back
  SimulatedStep step;
};

// A pipeline, and what is under way in it.
class Lane {
 public:
  Lane(const SimulatedPipeline& input, int32_t number, int32_t max_waiting)
      : scheduler(max_waiting),
        input_(input),
        number_(number),
        stage_free_(input.stages.size()),
        link_free_(input.links.size()) {
    scheduler.Reset(input.scheduler);
  }

  // Stages and links take frames in the order in which they are sent, so all of a step's way is known when it is sent.
  absl::Status Send(const StepPlan& plan, Nanos now) {
    const StepWork work = WorkOf(plan);
    Flying flying;
    flying.step.pipeline = number_;
    flying.step.stages.reserve(input_.stages.size());
    for (const PlannedSlice& slice : plan.slices) {
      (slice.decode ? flying.step.decode_tokens : flying.step.prefill_tokens) += slice.count;
    }
    Nanos at = now;
    for (size_t stage = 0; stage < input_.stages.size(); ++stage) {
      const double seconds = input_.stages[stage](work);
      if (!IsTime(seconds)) {
        return absl::InvalidArgumentError(
            absl::StrCat("stage ", stage, " takes ", seconds, " s for a step of ", work.tokens, " tokens"));
      }
      at = Pass(stage, work.tokens, at);
      const Nanos start = std::max(at, stage_free_[stage]);
      flying.step.stages.push_back({.queue_s = Seconds(start - at), .compute_s = seconds});
      at = stage_free_[stage] = start + FromSeconds(seconds);
    }
    flying.end = Pass(input_.links.size() - 1, work.tokens, at);
    flying.step.planned_s = Seconds(now);
    flying.step.round_trip_s = Seconds(flying.end - now);
    in_flight.push_back(std::move(flying));
    return absl::OkStatus();
  }

  PipelineOffer offer() const { return {&scheduler, input_.tokens_per_s}; }

  Scheduler scheduler;
  std::deque<Flying> in_flight;  // as the scheduler's

 private:
  // When a frame that is sent at `at` arrives behind the link.
  Nanos Pass(size_t index, int32_t tokens, Nanos at) {
    const SimulatedLink& link = input_.links[index];
    link_free_[index] = std::max(at, link_free_[index]) + FromSeconds(link.bytes_per_token * tokens / link.bytes_per_s);
    return link_free_[index] + FromSeconds(link.latency_s);
  }

  const SimulatedPipeline& input_;
  const int32_t number_;
  std::vector<Nanos> stage_free_, link_free_;
};

class Simulation {
 public:
  Simulation(const SimulationInput& input, SimulationObserver* observer)
      : input_(input), observer_(*observer), random_state_(input.seed), prefix_(input.shared_prefix) {
    for (const SimulatedPipeline& pipeline : input.pipelines) {
      lanes_.push_back(std::make_unique<Lane>(pipeline, static_cast<int32_t>(lanes_.size()), input.max_waiting));
      offers_.push_back(lanes_.back()->offer());
    }
    for (int32_t& token : prefix_) token = DrawToken();
  }

  absl::Status Run() {
    for (int32_t client = 0; client < std::max(input_.clients, 1); ++client) Announce();
    while (const std::optional<Nanos> next = NextEvent()) {
      now_ = *next;
      // What is announced from now on, even for the same time, comes after the steps that are planned now.
      const std::vector<Arrival> arrived = TakeDue();
      for (const auto& lane : lanes_) {
        while (!lane->in_flight.empty() && lane->in_flight.front().end == now_) TakeResult(lane.get());
      }
      for (const Arrival& arrival : arrived) Arrive(arrival);
      TANDEM_RETURN_IF_ERROR(SendSteps());
    }
    int32_t pages_used = 0;
    for (const auto& lane : lanes_) pages_used += lane->scheduler.pages_used();
    if (!live_.empty() || pages_used != 0) {
      return absl::InternalError(absl::StrCat("the scheduler left ", live_.size(), " requests and ", pages_used,
                                              " pages in use with nothing in flight"));
    }
    return absl::OkStatus();
  }

 private:
  struct Arrival {
    Nanos at;
    size_t request;
  };
  struct Live {
    SimulatedAnswer answer;
    Lane* lane = nullptr;
    Nanos last_token{0};
  };

  Time SchedulerTime() const { return Time(now_); }

  std::optional<Nanos> NextEvent() const {
    std::optional<Nanos> next;
    const auto consider = [&next](Nanos at) { next = next ? std::min(*next, at) : at; };
    if (!due_.empty()) consider(due_.front().at);
    for (const auto& lane : lanes_) {
      if (!lane->in_flight.empty()) consider(lane->in_flight.front().end);
    }
    return next;
  }

  // The next request will come: at its time, or in a closed loop at once.
  void Announce() {
    if (announced_ == input_.requests.size()) return;
    const Nanos at = input_.clients > 0 ? now_ : FromSeconds(input_.requests[announced_].at_s);
    due_.push_back({at, announced_++});
  }

  std::vector<Arrival> TakeDue() {
    std::vector<Arrival> arrived;
    while (!due_.empty() && due_.front().at == now_) {
      arrived.push_back(due_.front());
      due_.pop_front();
      if (input_.clients == 0) Announce();
    }
    return arrived;
  }

  void Arrive(const Arrival& arrival) {
    const SimulatedRequest& request = input_.requests[arrival.request];
    SequenceSpec spec;
    spec.id = arrival.request + 1;
    spec.prompt.resize(request.prompt_tokens);
    const size_t shared = std::min(spec.prompt.size(), prefix_.size());
    std::copy_n(prefix_.begin(), shared, spec.prompt.begin());
    for (size_t i = shared; i < spec.prompt.size(); ++i) spec.prompt[i] = DrawToken();
    spec.max_tokens = request.answer_tokens;
    const uint64_t id = spec.id;
    Live& live = live_[id];
    live.answer.request = request;
    live.answer.due_s = Seconds(arrival.at);
    live.lane = lanes_[ChoosePipeline(offers_, spec)].get();
    const absl::StatusOr<std::optional<uint64_t>> added = live.lane->scheduler.Add(std::move(spec), SchedulerTime());
    if (!added.ok()) return End(id, added.status());
    if (*added) End(**added, absl::ResourceExhaustedError("another request took its place in the queue"));
  }

  void TakeResult(Lane* lane) {
    const Flying flying = std::move(lane->in_flight.front());
    lane->in_flight.pop_front();
    Scheduler& scheduler = lane->scheduler;
    const StepPlan& plan = *scheduler.oldest_in_flight();
    std::vector<std::vector<int32_t>> drawn(plan.slices.size());
    for (size_t i = 0; i < drawn.size(); ++i) {
      if (plan.slices[i].output == engine::SliceOutput::kSample) drawn[i] = {DrawToken()};
    }
    for (const SliceEvent& event : scheduler.OnStepResult(drawn, flying.step.stages, SchedulerTime())) {
      Live& live = live_.at(event.sequence);
      if (scheduler.Find(event.sequence)->generated_tokens() == 1) {
        live.answer.first_token_s = Seconds(now_);
      } else {
        live.answer.gaps_s.push_back(Seconds(now_ - live.last_token));
      }
      live.last_token = now_;
      if (event.finish != FinishReason::kNone) End(event.sequence, absl::OkStatus());
    }
    observer_.OnStep(flying.step);
  }

  void End(uint64_t id, absl::Status status) {
    const auto live = live_.find(id);
    SimulatedAnswer answer = std::move(live->second.answer);
    Scheduler& scheduler = live->second.lane->scheduler;
    if (const Sequence* sequence = scheduler.Find(id)) answer.cached_tokens = sequence->cached_tokens;
    scheduler.Remove(id);
    live_.erase(live);
    answer.end_s = Seconds(now_);
    answer.status = std::move(status);
    observer_.OnAnswer(std::move(answer));
    if (input_.clients > 0) Announce();
  }

  absl::Status SendSteps() {
    while (const std::optional<PipelineMove> move = FindMove(offers_, SchedulerTime())) {
      Lane* const to = lanes_[move->to].get();
      to->scheduler.Adopt(lanes_[move->from]->scheduler.Release(move->sequence));
      live_.at(move->sequence).lane = to;
    }
    for (const auto& lane : lanes_) {
      while (const std::optional<StepPlan> plan = lane->scheduler.PlanStep(SchedulerTime())) {
        TANDEM_RETURN_IF_ERROR(lane->Send(*plan, now_));
      }
    }
    return absl::OkStatus();
  }

  // SplitMix64.
  int32_t DrawToken() {
    uint64_t mixed = random_state_ += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return static_cast<int32_t>((mixed ^ (mixed >> 31)) % kVocabulary);
  }

  const SimulationInput& input_;
  SimulationObserver& observer_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<PipelineOffer> offers_;  // of the lanes
  Nanos now_{0};
  std::deque<Arrival> due_;  // in order of time
  size_t announced_ = 0;     // requests
  absl::flat_hash_map<uint64_t, Live> live_;
  uint64_t random_state_;
  std::vector<int32_t> prefix_;
};

}  // namespace

absl::Status SimulatePipelines(const SimulationInput& input, SimulationObserver* observer) {
  TANDEM_RETURN_IF_ERROR(CheckInput(input));
  return Simulation(input, observer).Run();
}

}  // namespace tandem::coordinator
