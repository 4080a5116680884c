// Continuous batching: which tokens of which sequences go into the next step, and which KV pages they use.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/clock.h"
#include "coordinator/scheduler/fair_shares.h"
#include "coordinator/scheduler/sequence.h"
#include "coordinator/scheduler/sequence_pages.h"
#include "coordinator/scheduler/step_times.h"
#include "engine/stage.h"

namespace tandem::coordinator {

// What the scheduler must know of a pipeline.
struct SchedulerConfig {
  int32_t num_stages = 1;
  int32_t max_in_flight = 2;  // steps
  int32_t num_pages = 0;
  int32_t page_tokens = 32;
  int32_t max_step_tokens = 512;
  int32_t context = 0;               // tokens of a sequence, prompt and answer
  int32_t max_logit_rows = 1 << 20;  // positions of a step whose logits are returned (they must fit one message)
  // What a stage should take for a step at most while sequences decode: they get a token no more seldom than every
  // max_in_flight of these.
  double target_stage_s = 0.1;
  // Speculation: tokens of a step of decodes, guesses included, up to which one costs little more than none. 0: off.
  int32_t max_guessed_tokens = 0;
  // A draft model answers DraftRequests, where the sequence's own text has nothing to guess from.
  bool drafts = false;
};

// What max_guessed_tokens is where nobody chose, and its bound.
inline constexpr int32_t kDefaultGuessedTokens = 16;
inline constexpr int32_t kMaxGuessedTokens = 256;
// A token that is drawn costs a client this many of its prompt: decodes hold a place in every round.
inline constexpr int64_t kDecodeWork = 2;
// Bounds of Scheduler::RetrySeconds.
inline constexpr double kMinRetrySeconds = 1, kMaxRetrySeconds = 60;
inline constexpr char kSpeculateHelp[] =
    "Guess ahead where the text repeats itself, and check the guesses in the same step, if it has at most so many "
    "tokens with them; 0: off";

// Consecutive tokens [position, position + count) of a sequence.
struct PlannedSlice {
  uint64_t sequence = 0;
  int32_t position = 0;
  int32_t count = 0;
  engine::SliceOutput output = engine::SliceOutput::kNone;
  std::vector<uint32_t> pages;  // cover all tokens up to the slice's last
  uint32_t incarnation = 0;
  bool decode = false;           // its first token was drawn by a step before, or guessed; else a chunk of prefill
  uint32_t branch = 0;           // of the sequence's guesses
  std::vector<int32_t> guesses;  // the last ones of `count`, that need not be right if all before them are
};

// Tokens that a draft model should guess.
struct DraftRequest {
  uint64_t sequence = 0;
  uint32_t branch = 0;
  int32_t position = 0;  // of the first one: behind the tokens that are known, and guessed already
  int32_t count = 0;
  Time asked;
};

struct StepPlan {
  uint64_t step = 0;             // from 1 after each Reset
  std::vector<PageCopy> copies;  // in this order, before any slice
  std::vector<PlannedSlice> slices;
  Time planned;
};

// What a step did for one sequence.
struct SliceEvent {
  uint64_t sequence = 0;
  size_t slice = 0;                           // index into StepPlan::slices
  int32_t tokens = 0;                         // how many of those drawn were appended
  FinishReason finish = FinishReason::kNone;  // set with its last event
};

// Role: decides, never acts: the caller sends the steps and reports their results. Pure: no I/O, no threads, times are
// passed in. Owned by the dispatch thread; not thread-safe.
//
// Rules.
// - At most max_in_flight steps are in flight; with one more than stages, the next step waits at the first stage while
//   the oldest is on its way back. Steps end in the order planned.
// - A step takes decodes first, those that waited longest before others. They are dealt out to as many steps as there
//   are stages, in equal parts, so every stage has one; to one more if steps spend long between stages (step_times.h),
//   or the stages would wait for the last token.
// - Then chunks of prefill share what is left of the step. Chunks of one prompt follow each other through the stages.
//   While others decode, they are as large as keeps a stage's time near target_stage_s; else as large as fills and
//   empties the pipeline in a small part of the prompt's time. Of sequences that would compute the same tokens in a
//   step one does; the others find its pages in the next.
// - Who goes first, in admission and prefill: who has waited for kPatience or more; then higher priority; then the
//   client served least (fair_shares.h); then age. So a flood of one client, or of urgent requests, delays others but
//   never starves them.
// - A sequence is admitted when pages for its known tokens are free, or idle, and one page for each running sequence is
//   left. What the prefix index knows of it is not computed again: full pages are read where they are, and of one that
//   begins like its next page a copy is made. A decode takes one more page when it crosses a page's end.
// - Guesses travel behind the token that they follow. Where stages would idle, more of them follow in steps of their
//   own before it is known whether the first ones are right; if one is not, what steps in flight compute behind it is
//   ignored, and overwritten by the steps that follow them through the stages.
// - If no page is left for a decode, the youngest running sequence of the lowest priority gives up its pages and waits,
//   to be recomputed from its tokens (most of its pages are then idle, and found again if they stay so). The draws
//   depend on seed and position only, so its answer does not change. The oldest sequence of the highest priority always
//   proceeds, hence no deadlock.
// - A sequence that fills the context ends, or drops its oldest tokens and is computed anew from the others, in place
//   of what it was (context_shift.h).
// - Pages that a sequence filled go to the prefix index; the rest is free as soon as it ends, steps in flight or not
//   (page_pool.h says why that is safe). Idle pages are given up, least recently used first, when others need them.
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
  // in the context, or `keep` too large for it; message has both numbers), kResourceExhausted (too many wait, or the
  // sequence cannot fit in all pages; with the numbers).
  //
  // When too many wait, a sequence that never ran gives way to one of higher priority, or of a client of which fewer
  // wait: returns its id, and the caller removes it.
  absl::StatusOr<std::optional<uint64_t>> Add(SequenceSpec spec, Time now);
  // Whether the pipeline could take it at all. Errors: those of Add but for queues.
  absl::Status CheckFits(const SequenceSpec& spec) const;
  // Takes the sequence out, finished or not, and frees its pages. Unknown ids are ignored.
  void Remove(uint64_t id);
  // Ends a sequence: it stays known until Remove, its pages are free. One that has ended takes the new reason. The last
  // `unwanted` tokens were generated in vain.
  void Finish(uint64_t id, FinishReason reason, int32_t unwanted = 0);

  // The next step to send, or nothing if there is no work or enough steps are in flight.
  std::optional<StepPlan> PlanStep(Time now);
  // The step whose result must come next; null if none is in flight.
  const StepPlan* oldest_in_flight() const { return in_flight_.empty() ? nullptr : &in_flight_.front(); }
  // Ends oldest_in_flight(), which must not be null. `drawn`: for each of its slices the tokens drawn where the output
  // is kSample, one more than guesses that were right. `stages`: what the step took on each; may be empty. Events of
  // sequences that are still there, in slice order: a kSample slice appended its tokens, any other is done. A sequence
  // whose event has a finish reason stays known until Remove.
  std::vector<SliceEvent> OnStepResult(std::span<const std::vector<int32_t>> drawn, std::span<const StageTime> stages,
                                       Time now);

  // What the steps planned so far could do with. Each must be answered by OnDraft once.
  std::vector<DraftRequest> TakeDraftRequests();
  // Empty: the draft model cannot, and the sequence goes on without. Answers that come too late are ignored.
  void OnDraft(const DraftRequest& request, std::span<const int32_t> tokens, Time now);

  // Several pipelines, each with a scheduler: sequences move from one to another, to be recomputed there from their
  // tokens.
  //
  // Takes out a sequence that is there, with what it has generated.
  Sequence Release(uint64_t id);
  // The counterpart, of what another scheduler released and CheckFits allows here. max_waiting does not bound it.
  void Adopt(Sequence sequence);
  // What is left to do for all sequences, as far as it can be told: in tokens of prompts.
  int64_t Backlog() const;
  // The same of one that comes, if nothing of it is known.
  static int64_t WorkOf(const SequenceSpec& spec);
  // As many wait as may.
  bool full() const { return waiting() >= max_waiting_; }
  // The one of those that are not finished that came last, and what is left to do for it if it has to begin anew.
  const Sequence* Youngest() const;
  static int64_t WorkAnew(const Sequence& sequence);
  // Leading tokens of its prompt that would not be computed.
  int32_t KnownTokens(const SequenceSpec& spec) const;
  // Of those that wait the first one, in the order in which they will be admitted, for which there are no pages.
  const Sequence* Blocked(Time now) const;
  // Whether a sequence of another scheduler would be admitted at once.
  bool HasRoomFor(const Sequence& sequence) const;

  // When whoever is refused now may find room: as long as those who wait will take to start, going by the latest ones.
  double RetrySeconds() const;

  // Null if unknown. Valid until the next call that changes anything.
  const Sequence* Find(uint64_t id) const;
  int32_t running() const { return Count(SequenceState::kRunning); }
  int32_t waiting() const { return Count(SequenceState::kWaiting); }
  int32_t pages_used() const { return pages_.pool().used(); }
  int32_t pages_idle() const { return pages_.pool().idle(); }  // kept for sequences that begin alike
  int32_t pages_total() const { return pages_.pool().total(); }
  size_t steps_in_flight() const { return in_flight_.size(); }

  // Whoever waited this long goes before all others.
  static constexpr std::chrono::seconds kPatience{20};

 private:
  int32_t Count(SequenceState state) const;
  // Most tokens whose KV the sequence can ever need.
  int32_t MostTokens(const SequenceSpec& spec) const;
  // The waiting sequence that gives way to `spec`; null: none.
  Sequence* LeastWanted(const SequenceSpec& spec);
  void FallBack(Sequence* sequence);
  void ReleaseAll();

  // `sequences` in the order in which they are served.
  bool GoesBefore(const Sequence& a, const Sequence& b, Time now) const;
  void SortByTurn(std::vector<Sequence*>* sequences, Time now) const;
  // How many steps the decodes are dealt out to.
  int32_t DecodeGroups() const;
  void PlanDecodes(StepPlan* plan, int32_t* budget, Time now);
  // Pages for the next decode of `sequence`, taken from others if need be. False if it was itself the one to give up.
  bool EnsureDecodePage(Sequence* sequence, Time now);
  void Admit(Time now);
  // Gives the sequence, which waits, its pages. False if `reserve` more pages would not be left.
  bool AdmitOne(int32_t reserve, Sequence* sequence);
  // Sequences that fill the context, and are to go on, drop their oldest tokens and begin anew with what is left.
  void ShiftFull(Time now);
  void PlanPrefills(StepPlan* plan, int32_t budget, Time now);
  // How many tokens of prefill a step should have.
  int32_t ChunkTokens(std::span<Sequence* const> ready) const;
  // A slice in the plan computes the same tokens as `sequence` would.
  bool ComputedInStep(const StepPlan& plan, const Sequence& sequence) const;
  // How many guesses each of so many decodes of a step may have: none while prompts wait, which is work that counts.
  int32_t GuessesEach(int32_t decodes) const;
  // Guesses up to `most` tokens more of `sequence`, one of so many decodes of a step, or asks for a draft, if none are
  // left to be sent.
  void GuessOn(int32_t most, int32_t decodes, Time now, Sequence* sequence);
  // How many of at most `most` guesses can be sent next, for which pages are there.
  int32_t GuessesToSend(int32_t most, Sequence* sequence);
  // `count` tokens that are known, and so many guesses.
  void AddSlice(StepPlan* plan, Sequence* sequence, int32_t count, int32_t guesses);
  SliceEvent Complete(const PlannedSlice& slice, Sequence* sequence, std::span<const int32_t> drawn, Time now);

  const int32_t max_waiting_;
  SchedulerConfig config_;
  bool known_ = false;   // there was a Reset
  bool active_ = false;  // and no Halt since
  SequencePages pages_;
  FairShares shares_;
  StepTimes times_;
  Interval starts_;                         // of sequences, the first time
  std::map<uint64_t, Sequence> sequences_;  // by age
  std::deque<StepPlan> in_flight_;          // oldest first
  std::vector<PageCopy> copies_;            // of the next step
  std::vector<DraftRequest> draft_requests_;
  double draft_token_s_ = 0;  // running average; 0: not known
  uint64_t last_step_ = 0;
};

}  // namespace tandem::coordinator
