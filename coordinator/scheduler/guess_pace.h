// How much of a sequence is guessed ahead, learned from how often its guesses were right.
#pragma once

#include <cstdint>

namespace tandem::coordinator {

// A guess gets longer while all of it is right, and as long as was right when it was not; after several guesses of
// which nothing was right come steps without one. Counts are tokens, but for the steps left out. Owned by its sequence;
// not thread-safe.
class GuessPace {
 public:
  // Most tokens that the next step should guess. 0: none; the step is one of those left out.
  int32_t Next();
  // Of `guesses` tokens, at least one, the first `right` were drawn.
  void Learn(int32_t guesses, int32_t right);

  int32_t guessed() const { return guessed_; }
  int32_t right() const { return right_; }

 private:
  int32_t length_ = 4;              // of the next guess
  int32_t misses_ = 0, pause_ = 0;  // guesses in a row of which nothing was right; steps to leave out
  int32_t guessed_ = 0, right_ = 0;
};

}  // namespace tandem::coordinator
