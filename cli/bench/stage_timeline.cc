#include "cli/bench/stage_timeline.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace tandem::cli {
namespace {

// Seconds of the hop to each stage, and of the one back.
std::vector<double> HopTimes(const v1::StepTrace& trace) {
  double wire_s = static_cast<double>(trace.round_trip_us()) * 1e-6;
  std::vector<double> hops = {
      static_cast<double>(trace.first_wire_us())};  // first as measured, then as parts of wire_s
  for (const v1::StageTiming& timing : trace.stages()) {
    wire_s -= (static_cast<double>(timing.queue_us()) + timing.compute_us()) * 1e-6;
    hops.push_back(timing.wire_us());
  }
  if (std::find(hops.begin(), hops.end(), 0.0) != hops.end()) std::fill(hops.begin(), hops.end(), 1.0);
  const double sum = std::accumulate(hops.begin(), hops.end(), 0.0);
  // Clocks of different machines round differently; a little below zero is zero.
  for (double& hop : hops) hop *= std::max(0.0, wire_s) / sum;
  return hops;
}

}  // namespace

std::string StageTimeline::NameOf(const StageUse& stage) const {
  const bool several = stages_.front().pipeline != stages_.back().pipeline;
  return several ? absl::StrCat(stage.pipeline, ".", stage.stage) : absl::StrCat(stage.stage);
}

std::vector<StageUse>::iterator StageTimeline::FindPipeline(int32_t pipeline) {
  return std::partition_point(stages_.begin(), stages_.end(),
                              [pipeline](const StageUse& use) { return use.pipeline < pipeline; });
}

bool StageTimeline::Add(const v1::StepTrace& trace) {
  const int num_stages = trace.stages_size();
  if (num_stages < 1 || trace.pipeline() > std::numeric_limits<int32_t>::max() / 2) return false;
  const int32_t pipeline = static_cast<int32_t>(trace.pipeline());
  const auto known = FindPipeline(pipeline + 1) - FindPipeline(pipeline);
  if (num_stages > known && stages_.size() + (num_stages - known) > kMaxStages) return false;
  if (num_steps_ == 0) {
    first_us_ = trace.planned_us();
    first_pipeline_ = trace.pipeline();
  }
  if (trace.planned_us() < first_us_ && trace.pipeline() == first_pipeline_) return false;
  ++num_steps_;
  lost_steps_ += trace.lost();
  prefill_tokens_ += trace.prefill_tokens();
  decode_tokens_ += trace.decode_tokens();
  const double since_first_s = (static_cast<double>(trace.planned_us()) - static_cast<double>(first_us_)) * 1e-6;
  const double planned_s = std::max(0.0, since_first_s);
  const double end_s = std::max(planned_s, since_first_s + static_cast<double>(trace.round_trip_us()) * 1e-6);
  wall_s_ = std::max(wall_s_, end_s);
  const bool keep = kept_intervals_ + num_stages <= kMaxKeptIntervals;
  if (keep) {
    kept_.push_back({planned_s, end_s});
    kept_intervals_ += num_stages;
  }
  for (int32_t stage = static_cast<int32_t>(known); stage < num_stages; ++stage) {
    stages_.insert(FindPipeline(pipeline + 1), StageUse{.pipeline = pipeline, .stage = stage});
  }
  const auto first = FindPipeline(pipeline);

  const std::vector<double> hops_s = HopTimes(trace);
  const double tokens = static_cast<double>(trace.prefill_tokens()) + trace.decode_tokens();
  double at_s = planned_s;
  for (int i = 0; i < num_stages; ++i) {
    StageUse& stage = first[i];
    const double queue_s = trace.stages(i).queue_us() * 1e-6, compute_s = trace.stages(i).compute_us() * 1e-6;
    stage.queue_s += queue_s;
    stage.compute_s += compute_s;
    at_s += hops_s[i] + queue_s;
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
