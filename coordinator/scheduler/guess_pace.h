// How far ahead a sequence is guessed: as far as makes the most tokens a second.
#pragma once

#include <cstdint>
#include <span>

namespace tandem::coordinator {

// How often guesses of one kind are right, as learned from those that were drawn or not. Owned by its sequence; not
// thread-safe.
class GuessChance {
 public:
  // `prior`: what is believed before anything is known.
  explicit GuessChance(double prior) : prior_(prior) {}

  // The chance that a guess is right if those before it are.
  double right() const;
  // So many guesses were drawn, and then another token than guessed (`wrong`), or one that was not. Nothing right and
  // nothing wrong: time passes, and what was learned counts for less.
  void Learn(int32_t right, bool wrong);

 private:
  double prior_;
  double right_ = 0, wrong_ = 0;  // tokens, the latest of which count most
};

// How many tokens to guess, each right with `chance` if those before it are. `seconds`: of a step with none, one, two
// guesses and so on, the time to make them included. 0: guesses do not pay.
int32_t BestGuesses(double chance, std::span<const double> seconds);

}  // namespace tandem::coordinator
