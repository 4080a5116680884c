#include "coordinator/scheduler/guess_pace.h"

#include <cstddef>

namespace tandem::coordinator {
namespace {

// The weight of what is believed at first, in tokens.
constexpr double kPriorTokens = 4;
// What remains of the weight of earlier tokens with each result.
constexpr double kMemory = 0.95;

}  // namespace

double GuessChance::right() const { return (right_ + prior_ * kPriorTokens) / (right_ + wrong_ + kPriorTokens); }

void GuessChance::Learn(int32_t right, bool wrong) {
  right_ = kMemory * right_ + right;
  wrong_ = kMemory * wrong_ + (wrong ? 1 : 0);
}

int32_t BestGuesses(double chance, std::span<const double> seconds) {
  int32_t best = 0;
  double best_rate = 0;
  double tokens = 0, right = 1;  // expected of a step: the one that is drawn in any case, and those that are right
  for (size_t count = 0; count < seconds.size(); ++count) {
    tokens += right;
    right *= chance;
    if (tokens / seconds[count] <= best_rate) continue;
    best = static_cast<int32_t>(count);
    best_rate = tokens / seconds[count];
  }
  return best;
}

}  // namespace tandem::coordinator
