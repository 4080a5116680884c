// Continuous batching: which tokens of which sequences go into the next step, and which KV pages they use.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/clock.h"
#include "coordinator/scheduler/page_allocator.h"
#include "coordinator/scheduler/sequence.h"
#include "engine/stage.h"

namespace tandem::coordinator {

// What the scheduler must know of a pipeline.
struct SchedulerConfig {
  int32_t num_stages = 1;
  int32_t num_pages = 0;
  int32_t page_tokens = 32;
  int32_t max_step_tokens = 512;
  int32_t context = 0;               // tokens of a sequence, prompt and answer
  int32_t max_logit_rows = 1 << 20;  // positions of a step whose logits are returned (they must fit one message)
};

// Consecutive tokens [position, position + count) of a sequence.
struct PlannedSlice {
  uint64_t sequence = 0;
  int32_t position = 0;
  int32_t count = 0;
  engine::SliceOutput output = engine::SliceOutput::kNone;
  std::vector<uint32_t> pages;  // cover all tokens up to the slice's last
  uint32_t incarnation = 0;
};

struct StepPlan {
  uint64_t step = 0;  // from 1 after each Reset
  std::vector<PlannedSlice> slices;
  Time planned;
};

// What a step did for one sequence.
struct SliceEvent {
  uint64_t sequence = 0;
  size_t slice = 0;                           // index into StepPlan::slices
  FinishReason finish = FinishReason::kNone;  // set with its last event
};

// Role: decides, never acts: the caller sends the steps and reports their results. Pure: no I/O, no threads, times are
// passed in. Owned by the dispatch thread; not thread-safe.
//
// Rules.
// - At most num_stages steps are in flight, so that every stage has one. Steps end in the order planned.
// - A step takes decodes first, at most 1/num_stages of them (so that the stages share the sequences), those that
// waited
//   longest before others; then prefill chunks share what is left of max_step_tokens, at most 1/num_stages of it,
//   oldest sequence first. Chunks of one prompt follow each other through the stages.
// - Sequences are admitted in order of arrival when pages for their tokens are free and one page for each running
//   sequence is left. All their known tokens get pages then; a decode takes one more when it crosses a page's end.
// - If no page is free for a decode, the youngest running sequence gives up its pages and waits at its place in the
//   order of arrival, to be recomputed from its tokens. The draws depend on seed and position only, so its answer does
//   not change. The oldest sequence always proceeds, hence no deadlock.
// - Pages of a sequence that ends are free at once, steps in flight or not (page_allocator.h says why that is safe).
class Scheduler {
 public:
  // `max_waiting`: sequences that may wait for admission.
  explicit Scheduler(int32_t max_waiting) : max_waiting_(max_waiting) {}

  // A new pipeline: every sequence falls back to "nothing computed", steps in flight are forgotten. Returns the ids of
  // sequences that can never fit the new pipeline; the caller removes them.
  std::vector<uint64_t> Reset(const SchedulerConfig& config);
  // The pipeline is gone: the same fall back, and PlanStep gives nothing until Reset. Sequences may still be added if
  // there was a Reset before. `interruption`: counts as one for each sequence that was in flight.
  void Halt(bool interruption);

  // Errors: kUnavailable (no Reset yet), kInvalidArgument (empty prompt, max_tokens < 1, a prompt that leaves no room
  // in the context; message has both numbers), kResourceExhausted (too many wait, or the sequence cannot fit in all
  // pages; with the numbers).
  absl::Status Add(SequenceSpec spec, Time now);
  // Takes the sequence out, finished or not, and frees its pages. Unknown ids are ignored.
  void Remove(uint64_t id);
  // Ends a sequence: it stays known until Remove, its pages are free. One that has ended takes the new reason.
  void Finish(uint64_t id, FinishReason reason);

  // The next step to send, or nothing if there is no work or a step is in flight on every stage.
  std::optional<StepPlan> PlanStep(Time now);
  // The step whose result must come next; null if none is in flight.
  const StepPlan* oldest_in_flight() const { return in_flight_.empty() ? nullptr : &in_flight_.front(); }
  // Ends oldest_in_flight(), which must not be null. `tokens`: one for each of its slices, the drawn token where the
  // output is kSample. Events of sequences that are still there, in slice order: a kSample slice appended its token,
  // any other is done. A sequence whose event has a finish reason stays known until Remove.
  std::vector<SliceEvent> OnStepResult(std::span<const int32_t> tokens, Time now);

  // Null if unknown. Valid until the next call that changes anything.
  const Sequence* Find(uint64_t id) const;
  int32_t running() const { return Count(SequenceState::kRunning); }
  int32_t waiting() const { return Count(SequenceState::kWaiting); }
  int32_t pages_used() const { return pages_.total() - pages_.free(); }
  int32_t pages_total() const { return pages_.total(); }
  size_t steps_in_flight() const { return in_flight_.size(); }

 private:
  int32_t Count(SequenceState state) const;
  int32_t PagesFor(int32_t tokens) const;
  // Most tokens whose KV the sequence can ever need.
  int32_t MostTokens(const SequenceSpec& spec) const;
  absl::Status CheckFits(const SequenceSpec& spec) const;
  void FallBack(Sequence* sequence);
  void ReleaseAll();
  // Pages for the next decode of `sequence`, taken from younger sequences if need be. False if it was itself the
  // youngest and gave up.
  bool EnsureDecodePage(Sequence* sequence);
  void PlanDecodes(StepPlan* plan, int32_t* budget);
  void Admit();
  void PlanPrefills(StepPlan* plan, int32_t budget);
  void AddSlice(StepPlan* plan, Sequence* sequence, int32_t count);
  SliceEvent Complete(const PlannedSlice& slice, Sequence* sequence, int32_t token, Time now);

  const int32_t max_waiting_;
  SchedulerConfig config_;
  bool known_ = false;   // there was a Reset
  bool active_ = false;  // and no Halt since
  PageAllocator pages_{0};
  std::map<uint64_t, Sequence> sequences_;  // by age
  std::deque<StepPlan> in_flight_;          // oldest first
  uint64_t last_step_ = 0;
};

}  // namespace tandem::coordinator
