// What steps cost on the pipeline that serves, learned from those that came back.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "coordinator/clock.h"

namespace tandem::coordinator {

// Where the time of a step went on one stage, in seconds.
struct StageTime {
  double queue_s = 0;
  double compute_s = 0;
  // The hop behind the stage when it was measured last, from hand-over to acknowledgement; 0: not yet.
  double wire_s = 0;
};

// Moves a running average, 0 before the first value, towards `value`; some ten values are remembered.
void Average(double value, double* average);

// The average time between events, of which the latest count most.
class Interval {
 public:
  void Add(Time now);
  double seconds_between() const { return seconds_; }  // 0 before the second event

 private:
  std::optional<Time> last_;
  double seconds_ = 0;
};

// Running averages over steps: of the slowest stage's time, for decodes and for each token of prefill beside them, and
// of the time that a step spends between stages. Owned by the scheduler; not thread-safe.
class StepTimes {
 public:
  // A step came back `round_trip_s` after it was planned. `stages` may be empty (nothing is learned).
  void Observe(int32_t decode_tokens, int32_t prefill_tokens, std::span<const StageTime> stages, double round_trip_s);

  // How many tokens of prefill fit beside decodes if the slowest stage is to take `seconds`; `fallback` as long as that
  // is not known.
  int32_t PrefillWithin(double seconds, int32_t fallback) const;
  // The time between the stages of one step over that of its slowest stage; 0 as long as that is not known.
  double wire_share() const { return decode_s_ > 0 ? wire_s_ / decode_s_ : 0; }
  // Seconds of a step of decodes on the slowest stage; 0: not known.
  double decode_s() const { return decode_s_; }
  // Seconds from the planning of a step of decodes to its results, by its tokens: of sizes that there were not, what
  // those next to them let expect. Before any was, in parts of the time of one token.
  double DecodeSeconds(int32_t tokens) const;

 private:
  // Of the slowest stage; 0: not known.
  double decode_s_ = 0;         // a step of decodes only
  double prefill_token_s_ = 0;  // more for each token of prefill
  double wire_s_ = 0;           // outside of all stages, for steps of decodes only
  // Of steps of decodes, the time to their results: each size up to kExactSizes, and then all up to twice as many.
  struct SizeTime {
    double tokens = 0, seconds = 0;
  };
  static constexpr int32_t kExactSizes = 16;
  std::array<SizeTime, kExactSizes + 8> sizes_;
};

}  // namespace tandem::coordinator
