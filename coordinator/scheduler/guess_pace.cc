#include "coordinator/scheduler/guess_pace.h"

#include <algorithm>
#include <cmath>

namespace tandem::coordinator {
namespace {

constexpr int32_t kMaxLength = 64;
// So many misses in a row lead to steps without a guess, twice as many after each further one.
constexpr int32_t kPatientMisses = 3;
constexpr int32_t kMaxPause = 32;

// What is believed of a draft model before anything is known: this share is right, with the weight of so many tokens.
constexpr double kPriorRight = 0.7;
constexpr double kPriorTokens = 4;
// What remains of the weight of earlier tokens with each result.
constexpr double kMemory = 0.95;
// Drafts of a model whose speed is not known yet.
constexpr int32_t kFirstDraft = 4;

}  // namespace

void GuessPace::Learn(int32_t guesses, int32_t right) {
  if (guesses == 0) {
    pause_ = std::max(pause_ - 1, 0);
    return;
  }
  length_ = right == guesses ? std::min(std::max(length_, 2 * guesses), kMaxLength) : right + 1;
  misses_ = right > 0 ? 0 : misses_ + 1;
  const int32_t beyond = misses_ - kPatientMisses;
  if (beyond >= 0) pause_ = std::min(2 << std::min(beyond, 10), kMaxPause);
}

double DraftPace::RightChance(int32_t count) const {
  return std::pow((right_ + kPriorRight * kPriorTokens) / (right_ + wrong_ + kPriorTokens), count);
}

int32_t DraftPace::Next(int32_t most, const DraftCost& cost) const {
  if (cost.step_s <= 0 || cost.draft_token_s <= 0) return std::min(most, kFirstDraft);
  int32_t best = 0;
  double best_rate = 1 / cost.step_s;
  double tokens = 1;  // expected of a step: the one that is drawn in any case, and those that are right
  for (int32_t count = 1; count <= most; ++count) {
    tokens += RightChance(count);
    const double rate = tokens / (cost.step_s + (cost.more_token_s + cost.draft_token_s) * count);
    if (rate > best_rate) {
      best = count;
      best_rate = rate;
    }
  }
  return best;
}

void DraftPace::Learn(int32_t right, bool wrong) {
  right_ = kMemory * right_ + right;
  wrong_ = kMemory * wrong_ + (wrong ? 1 : 0);
}

}  // namespace tandem::coordinator
