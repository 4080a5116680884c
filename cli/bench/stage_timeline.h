// When each stage computed, put together from the traces of steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/v1/cluster.pb.h"

namespace tandem::cli {

// A step on one stage. Seconds since the first step was planned.
struct BusyInterval {
  double start_s = 0, end_s = 0;
  double prefill_share = 0;  // of its tokens
};

// A whole step, as above.
struct StepSpan {
  double planned_s = 0, end_s = 0;
};

struct StageUse {
  int32_t pipeline = 0, stage = 0;
  double queue_s = 0, compute_s = 0;  // sums over all steps
  double utilisation = 0;             // of the time from the first step's planning to the last one's end
  std::vector<BusyInterval> intervals;
};

// A trace has durations only, since machines have clocks of their own. So a step is laid out from its planning on: what
// the stages do not account for, the wire, is shared out over the hops to each stage and back, in the proportion of
// their last measures, or evenly while one has not been measured. A stage computes one step at a time, in order: an
// interval that would begin inside the one before begins at its end. Thread-compatible.
class StageTimeline {
 public:
  // Intervals that are kept, of all stages; of later steps only the sums.
  static constexpr size_t kMaxKeptIntervals = size_t{1} << 20;
  static constexpr size_t kMaxStages = 4096;  // of all pipelines

  // False: the trace is impossible (no stages, too many, or one of the first pipeline planned before the first one),
  // and left out. What other pipelines had planned before the first trace begins with it.
  bool Add(const v1::StepTrace& trace);

  // By pipeline and stage.
  const std::vector<StageUse>& stages() const { return stages_; }
  // For people: "2" is the third stage, and where there are several pipelines "1.2" that of the second one.
  std::string NameOf(const StageUse& stage) const;
  const std::vector<StepSpan>& steps() const { return kept_; }
  double wall_s() const { return wall_s_; }
  uint64_t num_steps() const { return num_steps_; }
  uint64_t lost_steps() const { return lost_steps_; }
  uint64_t prefill_tokens() const { return prefill_tokens_; }
  uint64_t decode_tokens() const { return decode_tokens_; }

 private:
  // Its first stage, or where in stages_ it would be.
  std::vector<StageUse>::iterator FindPipeline(int32_t pipeline);

  std::vector<StageUse> stages_;
  std::vector<StepSpan> kept_;
  size_t kept_intervals_ = 0;
  uint64_t first_us_ = 0;
  uint32_t first_pipeline_ = 0;
  double wall_s_ = 0;
  uint64_t num_steps_ = 0, lost_steps_ = 0, prefill_tokens_ = 0, decode_tokens_ = 0;
};

}  // namespace tandem::cli
