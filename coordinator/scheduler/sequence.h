// A request in flight, as the scheduler sees it: token ids, how far they are computed, pages, limits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "coordinator/clock.h"
#include "coordinator/scheduler/guesses.h"
#include "coordinator/scheduler/prefix_index.h"
#include "engine/stage.h"

namespace tandem::coordinator {

enum class FinishReason {
  kNone,        // not finished
  kStop,        // a stop id was drawn, or the listener ended it
  kLength,      // max_tokens were generated
  kContext,     // the context is full
  kConstraint,  // nothing that the constraint allows can follow
  kComplete,    // nothing was to be generated, and what was wanted of the prompt was returned
};

// What a sequence is asked to do. Constant once added.
struct SequenceSpec {
  uint64_t id = 0;                // ascending in order of arrival: also the age
  std::vector<int32_t> prompt;    // at least one token
  int32_t max_tokens = 0;         // to generate, >= 1
  std::vector<int32_t> stop_ids;  // drawing one of these ends the sequence
  // What the sequence is for. kSample: it generates. Else one pass over the prompt returns the logits of every
  // position, the state of the first or of the last one, or the states' sum, slice by slice.
  engine::SliceOutput output = engine::SliceOutput::kSample;
  std::string client;    // whom it is for: clients share the pipeline in equal parts
  int32_t priority = 0;  // higher ones are admitted first, and preempted last
  // Keys and values are a function of the tokens for all sequences of the same domain: names the adapters.
  std::string domain;

  // At the end of the context: it drops its oldest tokens and goes on (context_shift.h), else it ends. `keep`: so many
  // of the first tokens stay.
  bool shift = false;
  int32_t keep = 0;

  // Its next tokens may be guessed, and several of them checked in one step.
  bool may_guess = false;

  bool generates() const { return output == engine::SliceOutput::kSample; }
  // Tokens that others have computed may be left out: not if something is wanted of each, or of the first.
  bool may_reuse() const { return generates() || output == engine::SliceOutput::kLastState; }
};

enum class SequenceState { kWaiting, kRunning, kFinished };

// Written by the scheduler only.
struct Sequence {
  SequenceSpec spec;
  SequenceState state = SequenceState::kWaiting;
  FinishReason finish = FinishReason::kNone;
  std::vector<int32_t> tokens;  // prompt, then what was generated; without those that were dropped
  int64_t dropped = 0;          // tokens, by all shifts together; they were behind the first spec.keep
  int32_t shifts = 0;
  std::vector<uint32_t> pages;        // in token order; empty unless running
  int32_t indexed = 0;                // leading pages that are in the prefix index, so others may read them
  PrefixIndex::Node* node = nullptr;  // the last of them; null: none
  int32_t to_compute = 0;             // tokens that it lacked when it was admitted
  int32_t cached_tokens = 0;          // of the prompt, found in the index when it was first computed
  int32_t scheduled = 0;              // leading tokens and guesses whose KV is computed, or will be by steps in flight
  uint32_t incarnation = 0;           // raised whenever the KV is given up; results of steps planned before are ignored
  int32_t in_flight = 0;              // slices of this incarnation in steps in flight
  uint64_t last_step = 0;             // the latest step it was in
  int64_t furthest = 0;               // place in the whole text up to which steps have ended
  int64_t furthest_before = -1;       // the same when the pipeline broke last while it was in flight
  int32_t interruptions = 0;          // how often that was, without having come further
  Guesses guesses;                    // behind `tokens`
  Time arrival, first_step, first_token, last_token;
  Time waiting_since;    // its arrival, or when it was preempted last
  bool started = false;  // first_step is set

  int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t prompt_tokens() const { return static_cast<int32_t>(spec.prompt.size()); }
  int32_t generated_tokens() const { return static_cast<int32_t>(dropped + length() - prompt_tokens()); }
  // Tokens known and not yet handed to a step. 0: waits for the token that a step in flight draws; below that by the
  // number of guesses that are in flight too.
  int32_t pending() const { return length() - scheduled; }
  int32_t sent_guesses() const { return std::max(0, -pending()); }
  int32_t unsent_guesses() const { return guesses.size() - sent_guesses(); }
  // Past its prompt: its next slice is the token drawn last, or guesses.
  bool decoding() const { return generated_tokens() > 0 && pending() <= 1; }
  // Tokens [begin, end), guesses among them.
  std::vector<int32_t> TokensOf(int32_t begin, int32_t end) const {
    std::vector<int32_t> result(tokens.begin() + std::min(begin, length()), tokens.begin() + std::min(end, length()));
    const std::span<const int32_t> ahead = guesses.ahead();
    result.insert(result.end(), ahead.begin() + std::max(0, begin - length()),
                  ahead.begin() + std::max(0, end - length()));
    return result;
  }
};

}  // namespace tandem::coordinator
