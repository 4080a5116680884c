#include "coordinator/scheduler/guess_pace.h"

#include <algorithm>

namespace tandem::coordinator {
namespace {

constexpr int32_t kMaxLength = 16;
// So many misses in a row lead to steps without a guess, twice as many after each further one.
constexpr int32_t kPatientMisses = 3;
constexpr int32_t kMaxPause = 32;

}  // namespace

int32_t GuessPace::Next() {
  if (pause_ == 0) return length_;
  --pause_;
  return 0;
}

void GuessPace::Learn(int32_t guesses, int32_t right) {
  guessed_ += guesses;
  right_ += right;
  length_ = right == guesses ? std::min(2 * guesses, kMaxLength) : right + 1;
  misses_ = right > 0 ? 0 : misses_ + 1;
  const int32_t beyond = misses_ - kPatientMisses;
  if (beyond >= 0) pause_ = std::min(2 << std::min(beyond, 10), kMaxPause);
}

}  // namespace tandem::coordinator
