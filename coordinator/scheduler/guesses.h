// What one sequence is guessed to go on with.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "coordinator/scheduler/guess_pace.h"
#include "coordinator/scheduler/ngram_guesser.h"

namespace tandem::coordinator {

// Guessed tokens behind the known ones, from the sequence's own text or from a draft model. Steps compute them before
// they are known to be right, several steps ahead if they last; the first that is wrong ends the branch: what steps in
// flight compute behind it counts for nothing. "Sent" guesses, which the caller counts, are the leading ones that are
// in steps. Owned by its sequence; not thread-safe.
class Guesses {
 public:
  std::span<const int32_t> ahead() const { return ahead_; }
  int32_t size() const { return static_cast<int32_t>(ahead_.size()); }
  // Raised when guesses turn out wrong or are dropped: slices that were planned before are of another branch.
  uint32_t branch() const { return branch_; }

  // `token` was drawn behind the known ones; `sent` as it was before. False: another was guessed, and all guesses are
  // gone.
  bool OnDrawn(int32_t token, int32_t sent);
  // After the last token of a result.
  void Learn();
  // Nothing is guessed any more, and a draft on its way is not wanted.
  void Drop();
  // The same, and the known tokens are others now: what followed in them before counts no more.
  void Restart();

  // Guesses tokens behind `tokens` and ahead(), from what followed in `tokens` before, as many as pay: `seconds` as for
  // BestGuesses. Whether there are any.
  bool LookUp(std::span<const int32_t> tokens, std::span<const double> seconds);

  // How many tokens, at most `most`, a draft model should guess behind the known ones and ahead(). `seconds` as for
  // BestGuesses; empty: not known. 0: none, as they would hardly be of use, or drafts failed.
  int32_t ToDraft(int32_t most, std::span<const double> seconds) const;
  // A draft was asked for. `wait`: the known tokens wait for it, to travel with it.
  void Await(bool wait);
  bool awaits_draft() const { return awaits_; }
  bool waits_for_draft() const { return awaits_ && wait_; }
  int32_t drafts() const { return drafts_; }  // that came
  // It came, with what follows on what was ahead then. `since`: what is known, or ahead, to follow by now.
  void OnDraft(std::span<const int32_t> tokens, std::span<const int32_t> since);
  // It did not come: the draft model cannot, and is not asked again.
  void StopDrafting();

  // Of all that were sent, for usage: how many, and how many were right.
  void CountSent(int32_t count) { guessed_ += count; }
  int32_t guessed() const { return guessed_; }
  int32_t right() const { return right_; }

 private:
  // What a guess follows from: a match in the text of the kind of that number, or, with the number behind them, a
  // draft.
  using Source = uint8_t;
  static constexpr Source kDraft = static_cast<Source>(MatchKind::kReplaced) + 1;
  // What a result told of the guesses of one source.
  struct Verdict {
    int32_t right = 0;
    bool wrong = false;  // another was drawn than guessed
  };

  // That all that is ahead is right.
  double AheadChance() const;

  std::vector<int32_t> ahead_;
  std::vector<Source> sources_;  // of ahead_
  uint32_t branch_ = 0;
  NgramGuesser text_;
  // By source. Before anything is known: what was copied so far goes on, models draft better than two tokens foretell.
  std::array<GuessChance, kDraft + 1> chances_ = {GuessChance(0),   GuessChance(0.5), GuessChance(0.9),
                                                  GuessChance(0.5), GuessChance(0.2), GuessChance(0.7)};
  bool can_draft_ = true, awaits_ = false, wait_ = false;
  int32_t drafts_ = 0;
  std::array<Verdict, kDraft + 1> verdicts_;  // since the last Learn, by source
  int32_t guessed_ = 0, right_ = 0;
};

}  // namespace tandem::coordinator
