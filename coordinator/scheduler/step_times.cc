#include "coordinator/scheduler/step_times.h"

#include <algorithm>

namespace tandem::coordinator {
namespace {

// Fewer tokens of prefill say too little about one.
constexpr int32_t kMinPrefill = 16;

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
    auto& times = decode_tokens == 1 ? one_token_ : more_tokens_;
    Average(decode_tokens, &times.tokens);
    Average(round_trip_s, &times.seconds);
  } else if (prefill_tokens >= kMinPrefill) {
    const double beside = decode_tokens > 0 ? decode_s_ : 0;
    if (slowest > beside) Average((slowest - beside) / prefill_tokens, &prefill_token_s_);
  }
}

double StepTimes::more_token_s() const {
  if (one_token_.tokens == 0 || more_tokens_.tokens == 0) return 0;
  return std::max(0.0, (more_tokens_.seconds - one_token_.seconds) / (more_tokens_.tokens - 1));
}

int32_t StepTimes::PrefillWithin(double seconds, int32_t fallback) const {
  if (prefill_token_s_ <= 0) return fallback;
  const double tokens = std::clamp((seconds - decode_s_) / prefill_token_s_, 0.0, 1e6);
  return static_cast<int32_t>(tokens);
}

}  // namespace tandem::coordinator
