// The thread that drives the pipelines: takes requests in, sends steps to first stages, takes results from last ones.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/clock.h"
#include "coordinator/draft/drafter.h"
#include "coordinator/draw_guide.h"
#include "coordinator/scheduler/pipeline_choice.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/step_codec.h"
#include "engine/base/mutex.h"
#include "engine/sampling/sampler.h"
#include "links/step_link.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::coordinator {

// A placement that serves. Units as in SchedulerConfig.
struct PipelineSpec {
  uint64_t epoch = 0;  // no other placement ever had it
  int32_t num_stages = 1;
  int32_t num_pages = 0;
  int32_t page_tokens = 32;
  int32_t max_step_tokens = 512;
  int32_t context = 0;
  double tokens_per_s = 1;  // with many requests; compared between pipelines
};

// What the scheduler is told of it; the rest has its defaults.
SchedulerConfig SchedulerConfigOf(const PipelineSpec& spec);

// One request to the pipeline.
struct GenerationTask {
  std::vector<int32_t> prompt;
  // Checked before (engine_convert.h); put into the slices as it is, so with a seed. For output kSample.
  v1::Sampling sampling;
  // How many of the last tokens the penalties see; 0 without penalties.
  int32_t penalty_window = 0;
  // What else the draws depend on, up to the end of the prompt; null: nothing. The dispatch thread's from Submit on.
  std::shared_ptr<DrawGuide> guide;
  int32_t max_tokens = 1;
  std::vector<int32_t> stop_ids;
  // As in SequenceSpec.
  bool shift = false;
  int32_t keep = 0;
  // Tokens of the text that are left out in front of the prompt: draws have the random numbers of their place in it.
  int64_t left_out = 0;
  // What is wanted, as in SequenceSpec. Other than kSample nothing is generated, and of the fields above only the
  // prompt counts.
  engine::SliceOutput output = engine::SliceOutput::kSample;
  // Checked before; put into every slice.
  std::vector<engine::AdapterUse> adapters;
  // As in SequenceSpec.
  std::string client;
  int32_t priority = 0;
};

// How a generation ended. Seconds: from arrival to first step, to first token, to last token.
struct GenerationResult {
  FinishReason reason = FinishReason::kNone;
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;
  int32_t shifts = 0;          // how often the context was full and the oldest tokens were dropped
  int32_t cached_tokens = 0;   // of the prompt, that were computed before
  int32_t guessed_tokens = 0;  // speculation: how many were tried, and how many were what was then drawn
  int32_t right_guesses = 0;
  double queue_s = 0, prefill_s = 0, decode_s = 0;
};

// Called on the dispatch thread; must not block, and must not destroy the dispatcher.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  // A token was drawn. False ends the generation with FinishReason::kStop.
  virtual bool OnToken(const engine::SampledToken& token) { return true; }
  // Behind the calls of OnToken for a step, unless one of them ended the generation: the steps that follow have been
  // sent. What OnToken need not do at once, such as telling the client, costs the pipeline no time here.
  virtual void OnStepsSent() {}
  // kLogits: [vocabulary] of one position, positions in order.
  virtual void OnLogits(int32_t position, std::span<const float> logits) {}
  // kFirstState, kLastState: [hidden], once.
  virtual void OnState(std::span<const float> state) {}
  // kStateSum: [hidden] of the slice that begins at `position`, slices in order. Position 0 may come again, when the
  // sequence had to be recomputed: what was summed up before is then void.
  virtual void OnStateSum(int32_t position, std::span<const int64_t> sum) {}
  // The last call, exactly one for each successful Submit. `status` is not OK if the generation did not end by itself:
  // kCancelled, kResourceExhausted (queue full), kUnavailable (no pipeline, or shutting down).
  virtual void OnFinished(const absl::Status& status, const GenerationResult& result) = 0;
};

// A step whose results have arrived, and what it cost.
struct StepReport {
  int32_t pipeline = 0;  // pipelines that serve beside each other have small numbers, which are used again
  uint64_t epoch = 0, step = 0;
  Time planned;
  // Tokens of prompts, and tokens behind the prompt of their sequence, guessed ones among them.
  int32_t prefill_tokens = 0, decode_tokens = 0;
  std::vector<StageTime> stages;
  double first_wire_s = 0;  // of the hop to the first stage, as StageTime::wire_s
  double round_trip_s = 0;
};

// Sees what the dispatcher does. Called on the dispatch thread; must not block.
class DispatcherObserver {
 public:
  virtual ~DispatcherObserver() = default;
  virtual void OnStep(const StepReport& report) = 0;
  virtual void OnFirstToken(double seconds_since_arrival) = 0;
  virtual void OnFinished(absl::StatusCode code, const GenerationResult& result) = 0;
};

// Sums over all pipelines.
struct DispatcherStats {
  uint64_t epoch = 0;  // of the pipeline attached last; 0: none is attached
  int32_t pipelines = 0;
  int32_t running = 0, waiting = 0;
  int32_t kv_pages_used = 0, kv_pages_total = 0;
  int32_t kv_pages_idle = 0;             // kept for sequences that begin alike
  uint64_t bytes_out = 0, bytes_in = 0;  // of frames to the first stage and from the last one, of all epochs
};

// Role: owns the tasks, and of each pipeline the scheduler and the link to the first stage, on a thread of its own (the
// dispatch thread). Ownership: borrows listeners until their OnFinished, clock and observer until Stop. Threading: all
// public functions are thread-safe and none blocks, but Stop, which joins the thread. Inputs are queued in order; the
// queue is bounded by max_waiting requests and kMaxQueuedFrames frames a pipeline.
//
// Several pipelines may serve at a time, each with the whole model. A request goes to one of them (ChoosePipeline), and
// stays there, but for three cases: it waits for pages while another pipeline has them, its pipeline ends, or a new one
// comes that would be through with it earlier.
//
// Failures of a pipeline: a frame that lies (wrong step, results that were not asked for, tokens out of range), a step
// that failed on a stage, or a link that breaks end the pipeline, never the process. Sequences then move to those that
// are left, or wait for the next one; they are recomputed there and go on with the tokens they would have had anyway.
class Dispatcher {
 public:
  struct Options {
    int32_t vocab = 0;          // of the model
    int32_t hidden = 0;         // of the model
    int32_t max_waiting = 256;  // requests that may wait for admission to each pipeline
    // Without a pipeline for this long, requests end with kUnavailable and new ones are refused.
    std::chrono::milliseconds pipeline_wait{30000};
    // As in SchedulerConfig.
    int32_t max_guessed_tokens = 0;
    std::unique_ptr<Drafter> drafter;        // null: nobody drafts
    const Clock* clock = nullptr;            // null: the steady clock
    DispatcherObserver* observer = nullptr;  // may be null
    // The pipeline of `epoch` broke and was detached. Called on the dispatch thread; must not block.
    std::function<void(uint64_t epoch, absl::Status why)> on_pipeline_broken;
  };
  explicit Dispatcher(Options options);
  // Stops.
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // From now on steps go to `first`, too. Takes effect on the dispatch thread.
  void AttachPipeline(PipelineSpec spec, std::unique_ptr<links::StepLink> first);
  // Closes the link, if the pipeline is attached; its sequences move or wait. on_pipeline_broken is not called.
  // kCancelled means that the pipeline was sound, so its end does not count among the interruptions of the sequences in
  // flight.
  void DetachPipeline(uint64_t epoch, absl::Status why);
  // What clients are told while nothing serves: "waiting for 1 more worker". Holds until a pipeline ends.
  void SetReason(const std::string& why);
  // A frame from a last stage. Frames of epochs that are not attached are dropped.
  void OnFrame(std::unique_ptr<v1::StepFrame> frame);

  // Returns the id of the generation. The listener may be called before this returns. Errors: kInvalidArgument (empty
  // prompt, token out of range, max_tokens < 1, a prompt that leaves no room in the context, or `keep` too large for
  // it), kUnavailable (no pipeline for longer than pipeline_wait, or stopped), kResourceExhausted (queue full).
  absl::StatusOr<uint64_t> Submit(GenerationTask task, GenerationListener* listener);
  // Ends the generation with kCancelled. Unknown ids, such as of finished generations, are ignored.
  void Cancel(uint64_t id);

  DispatcherStats stats() const;
  // Tokens of context of the pipeline attached last; 0 before the first one.
  int32_t context() const;
  // Ends every generation with kUnavailable, closes the links, joins the thread and stops the drafter. Idempotent.
  void Stop();

  static constexpr int kMaxQueuedFrames = 256;
  // A generation during which the pipeline broke this often, and which came no further in between, is ended: it may be
  // what breaks it.
  static constexpr int kMaxInterruptions = 3;

 private:
  struct Attach {
    PipelineSpec spec;
    std::unique_ptr<links::StepLink> link;
  };
  struct Detach {
    uint64_t epoch;
    absl::Status why;
  };
  struct NewTask {
    uint64_t id;
    GenerationTask task;
    GenerationListener* listener;
    Time arrival;
  };
  struct CancelTask {
    uint64_t id;
  };
  struct Drafted {
    DraftRequest request;
    std::vector<int32_t> tokens;
  };
  using Input = std::variant<Attach, Detach, NewTask, CancelTask, Drafted, std::unique_ptr<v1::StepFrame>>;
  // A pipeline, or a place for the next one. Where none serves, sequences wait in one of them.
  struct Lane {
    Lane(int32_t number, int32_t max_waiting) : number(number), scheduler(max_waiting) {}
    bool serves() const { return link != nullptr; }

    const int32_t number;
    Scheduler scheduler;
    PipelineSpec spec;
    std::unique_ptr<links::StepLink> link;  // null: no pipeline
  };
  struct Task {
    GenerationTask task;
    GenerationListener* listener = nullptr;
    Lane* lane = nullptr;          // whose scheduler has the sequence
    int32_t logits_delivered = 0;  // positions; after a new pipeline they are computed again but not given again
  };

  absl::Status CheckTask(const GenerationTask& task) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Post(Input input) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // All that follows: dispatch thread only.
  void Run();
  bool TakeInputs(std::deque<Input>* inputs);  // waits; false: stop
  void Handle(Attach attach);
  void Handle(Detach detach);
  void Handle(NewTask task);
  void Handle(CancelTask cancel);
  void Handle(Drafted drafted);
  void Handle(std::unique_ptr<v1::StepFrame> frame);
  // Tells the listener and the guide. `go_on`: neither ends the generation; else with `finish`.
  absl::Status DeliverToken(const engine::SampledToken& token, Task* task, bool* go_on, FinishReason* finish);
  // What a drawn token must bring along.
  absl::Status CheckDrawn(const Lane& lane, const PlannedSlice& slice, const StepOutput& output) const;
  void Deliver(Lane* lane, const StepPlan& plan, const std::vector<SliceEvent>& events,
               const std::vector<StepOutput>& outputs);
  // Of a sequence that does not generate.
  void DeliverOutput(const PlannedSlice& slice, const StepOutput& output, Task* task);
  void DeliverLogits(const PlannedSlice& slice, std::span<const float> logits, Task* task);
  void SendAllSteps();
  bool SendSteps(Lane* lane);  // false: its pipeline broke
  std::unique_ptr<v1::StepFrame> FrameOf(const Lane& lane, const StepPlan& plan);
  void AskForDrafts(Lane* lane);
  StepReport Report(const Lane& lane, const StepPlan& plan, std::vector<StageTime> stages) const;
  // What listeners and observer hear of steps only now that those that follow have been sent.
  void TellOfSteps();

  bool serves() const;
  Lane* FindLane(uint64_t epoch);  // null: it is not attached
  // Where the next pipeline comes to.
  Lane* FreeLane();
  // Those that serve, and what they are to be chosen by.
  std::vector<Lane*> ServingLanes(std::vector<PipelineOffer>* offers) const;
  // Where a sequence goes: to a lane that serves, if any does.
  Lane* ChooseLane(const SequenceSpec& spec);
  // The sequence is recomputed in `to`; ends it if it does not fit there.
  void Move(uint64_t id, Lane* to);
  // Sequences that wait for pages go where there are some.
  void Balance();
  void Break(Lane* lane, const absl::Status& why);  // detaches and tells on_pipeline_broken
  void Close(Lane* lane, const absl::Status& why);  // detaches
  void EndInterrupted(const Lane& lane, const absl::Status& why);
  void ExpireWithoutPipeline();
  void End(uint64_t id, const absl::Status& status);
  void EndAll(const absl::Status& status);
  void Publish();

  const Options options_;
  const SteadyClock steady_clock_;
  const Clock& clock_;

  mutable Mutex mu_;
  CondVar wake_;
  std::deque<Input> inputs_ ABSL_GUARDED_BY(mu_);
  int32_t queued_tasks_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<uint64_t, int> queued_frames_ ABSL_GUARDED_BY(mu_);  // by epoch
  absl::flat_hash_set<uint64_t> overflowed_ ABSL_GUARDED_BY(mu_);          // epochs of too many frames
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  absl::flat_hash_set<uint64_t> live_ ABSL_GUARDED_BY(mu_);  // submitted, not finished, not cancelled
  DispatcherStats stats_ ABSL_GUARDED_BY(mu_);
  int32_t context_ ABSL_GUARDED_BY(mu_) = 0;        // 0: there was no pipeline yet
  bool expired_ ABSL_GUARDED_BY(mu_) = true;        // no pipeline for longer than pipeline_wait
  absl::Status why_detached_ ABSL_GUARDED_BY(mu_);  // the last one

  std::vector<std::unique_ptr<Lane>> lanes_;  // by number; never empty
  Lane* last_lane_ = nullptr;                 // the last one that served, or is to
  std::map<uint64_t, Task> tasks_;
  Time detached_at_;                   // the last one
  std::vector<uint64_t> told_tokens_;  // sequences, for TellOfSteps
  std::vector<StepReport> reports_;    // for TellOfSteps
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;  // of links that are closed

  Mutex stop_mu_;  // serialises Stop
  std::thread thread_ ABSL_GUARDED_BY(stop_mu_);
};

}  // namespace tandem::coordinator
