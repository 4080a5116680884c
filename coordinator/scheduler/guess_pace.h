// How far ahead a sequence is guessed, learned from how often its guesses were right.
#pragma once

#include <cstdint>

namespace tandem::coordinator {

// For guesses that cost nothing to make. They get longer while all are right, and as long as was right when they were
// not; after several of which nothing was right come steps without one. Counts are tokens, but for the steps left out.
// Owned by its sequence; not thread-safe.
class GuessPace {
 public:
  // Most tokens to guess ahead. 0: none; the next step is one of those left out.
  int32_t Next() const { return pause_ > 0 ? 0 : length_; }
  // The first `right` of `guesses` tokens were drawn. 0 of 0: a token was drawn of which nothing had been guessed.
  void Learn(int32_t guesses, int32_t right);

 private:
  int32_t length_ = 4;
  int32_t misses_ = 0, pause_ = 0;  // guesses in a row of which nothing was right; steps to leave out
};

// Seconds; 0: not known.
struct DraftCost {
  double step_s = 0;        // a step of one token
  double more_token_s = 0;  // a token more in it
  double draft_token_s = 0;
};

// For guesses of a draft model, which take time. Owned by its sequence; not thread-safe.
class DraftPace {
 public:
  // How many tokens to draft, at most `most`, for the most tokens a second, if each is right with the chance seen so
  // far. 0: drafts do not pay.
  int32_t Next(int32_t most, const DraftCost& cost) const;
  // The chance that `count` drafted tokens in a row are right.
  double RightChance(int32_t count) const;
  // So many drafted tokens were drawn, and then another than drafted (`wrong`), or one that was not. Nothing right and
  // nothing wrong: time passes, and what was learned counts for less.
  void Learn(int32_t right, bool wrong);

 private:
  double right_ = 0, wrong_ = 0;  // tokens, the latest of which count most
};

}  // namespace tandem::coordinator
