#include "cli/bench/stage_timeline.h"

#include <algorithm>

namespace tandem::cli {

bool StageTimeline::Add(const v1::StepTrace& trace) {
  const int num_stages = trace.stages_size();
  if (num_stages < 1 || num_stages > kMaxStages) return false;
  if (num_steps_ == 0) first_us_ = trace.planned_us();
  if (trace.planned_us() < first_us_) return false;
  ++num_steps_;
  lost_steps_ += trace.lost();
  prefill_tokens_ += trace.prefill_tokens();
  decode_tokens_ += trace.decode_tokens();
  const double planned_s = static_cast<double>(trace.planned_us() - first_us_) * 1e-6;
  const double round_trip_s = static_cast<double>(trace.round_trip_us()) * 1e-6;
  wall_s_ = std::max(wall_s_, planned_s + round_trip_s);
  const bool keep = (kept_.size() + 1) * num_stages <= kMaxKeptIntervals;
  if (keep) kept_.push_back({planned_s, planned_s + round_trip_s});
  if (stages_.size() < static_cast<size_t>(num_stages)) stages_.resize(num_stages);

  double wire_s = round_trip_s;
  for (const v1::StageTiming& timing : trace.stages()) {
    wire_s -= (static_cast<double>(timing.queue_us()) + timing.compute_us()) * 1e-6;
  }
  // Clocks of different machines round differently; a little below zero is zero.
  const double hop_s = std::max(0.0, wire_s) / (num_stages + 1);
  const double tokens = static_cast<double>(trace.prefill_tokens()) + trace.decode_tokens();
  double at_s = planned_s;
  for (int i = 0; i < num_stages; ++i) {
    StageUse& stage = stages_[i];
    const double queue_s = trace.stages(i).queue_us() * 1e-6, compute_s = trace.stages(i).compute_us() * 1e-6;
    stage.queue_s += queue_s;
    stage.compute_s += compute_s;
    at_s += hop_s + queue_s;
    if (keep) {
      const double start_s = stage.intervals.empty() ? at_s : std::max(at_s, stage.intervals.back().end_s);
      stage.intervals.push_back({start_s, start_s + compute_s, tokens > 0 ? trace.prefill_tokens() / tokens : 0.0});
    }
    at_s += compute_s;
  }
  for (StageUse& stage : stages_) stage.utilisation = wall_s_ > 0 ? stage.compute_s / wall_s_ : 0;
  return true;
}

}  // namespace tandem::cli
