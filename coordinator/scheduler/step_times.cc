#include "coordinator/scheduler/step_times.h"

#include <algorithm>

namespace tandem::coordinator {
namespace {

// Fewer tokens of prefill say too little about one.
constexpr int32_t kMinPrefill = 16;
// What a token more is believed to add to a step of one: before it is known, and beyond the largest size that there
// was, where it may look like nothing.
constexpr double kTokenShare = 0.1, kLeastTokenShare = 0.02;

}  // namespace

void Average(double value, double* average) {
  constexpr double kNewest = 0.1;  // its share
  *average = *average > 0 ? *average + kNewest * (value - *average) : value;
}

void Interval::Add(Time now) {
  if (last_) Average(SecondsBetween(*last_, now), &seconds_);
  last_ = now;
}

void StepTimes::Observe(int32_t decode_tokens, int32_t prefill_tokens, std::span<const StageTime> stages,
                        double round_trip_s) {
  if (stages.empty()) return;
  double slowest = 0, inside = 0;
  for (const StageTime& stage : stages) {
    slowest = std::max(slowest, stage.compute_s);
    inside += stage.queue_s + stage.compute_s;
  }
  if (prefill_tokens == 0 && decode_tokens > 0) {
    Average(slowest, &decode_s_);
    Average(std::max(0.0, round_trip_s - inside), &wire_s_);
    size_t index = static_cast<size_t>(std::min(decode_tokens, kExactSizes)) - 1;
    for (int32_t last = kExactSizes; last < decode_tokens && index + 1 < sizes_.size(); last *= 2) ++index;
    Average(decode_tokens, &sizes_[index].tokens);
    Average(round_trip_s, &sizes_[index].seconds);
  } else if (prefill_tokens >= kMinPrefill) {
    const double beside = decode_tokens > 0 ? decode_s_ : 0;
    if (slowest > beside) Average((slowest - beside) / prefill_tokens, &prefill_token_s_);
  }
}

double StepTimes::DecodeSeconds(int32_t tokens) const {
  // The measured sizes next to `tokens`, and the smallest and the largest of all. None takes longer than a larger one,
  // or a step that was held up would keep others of its size from being tried again.
  SizeTime below, above, smallest, largest;
  for (auto size = sizes_.rbegin(); size != sizes_.rend(); ++size) {
    if (size->tokens == 0) continue;
    const bool first = largest.tokens == 0;
    const SizeTime time = {size->tokens, first ? size->seconds : std::min(size->seconds, smallest.seconds)};
    if (first) largest = time;
    if (time.tokens >= tokens) above = time;
    if (time.tokens <= tokens && below.tokens == 0) below = time;
    smallest = time;
  }
  const auto share = [](double count) { return 1 + kTokenShare * (count - 1); };
  if (smallest.tokens == 0) return share(tokens);
  if (below.tokens == 0) return smallest.seconds * share(tokens) / share(smallest.tokens);
  if (above.tokens == 0) {
    const bool alone = largest.tokens == smallest.tokens;
    const double more = alone ? kTokenShare * smallest.seconds
                              : (largest.seconds - smallest.seconds) / (largest.tokens - smallest.tokens);
    return largest.seconds + std::max(more, kLeastTokenShare * smallest.seconds) * (tokens - largest.tokens);
  }
  if (above.tokens == below.tokens) return above.seconds;
  return below.seconds + (above.seconds - below.seconds) * (tokens - below.tokens) / (above.tokens - below.tokens);
}

int32_t StepTimes::PrefillWithin(double seconds, int32_t fallback) const {
  if (prefill_token_s_ <= 0) return fallback;
  const double tokens = std::clamp((seconds - decode_s_) / prefill_token_s_, 0.0, 1e6);
  return static_cast<int32_t>(tokens);
}

}  // namespace tandem::coordinator
