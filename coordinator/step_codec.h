// Steps to frames, and frames of the last stage back to results, checked: nothing that a worker sends is believed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/scheduler/scheduler.h"
#include "engine/sampling/sampler.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::coordinator {

// Appends `planned` of `sequence` to a frame and returns it. `sampling`, `penalty_window` and `adapters` as in
// GenerationTask.
v1::Slice* AppendSlice(const PlannedSlice& planned, const Sequence& sequence, const v1::Sampling& sampling,
                       int32_t penalty_window, std::span<const engine::AdapterUse> adapters, v1::StepFrame* frame);

// A token that the last stage drew.
struct Drawn {
  engine::SampledToken sampled;
  bool has_logprob = false;      // log-probabilities came with it
  bool has_mirostat_mu = false;  // and mirostat's mu
};

// What a step gave for one of its slices.
struct StepOutput {
  std::vector<Drawn> drawn;        // kSample: one, and one more for each guess that was right
  std::vector<float> logits;       // kLogits: [tokens of the slice, vocab]
  std::vector<float> state;        // kFirstState, kLastState: [hidden]
  std::vector<int64_t> state_sum;  // kStateSum: [hidden]; see engine::kStateSumBits
};

// What the results of a pipeline must agree with.
struct PipelineShape {
  int32_t num_stages = 1;
  int32_t vocab = 0;
  int32_t hidden = 0;
};

// Checks a frame that came back for `plan`, and decodes it: one output for each slice of the plan, in order. Errors:
// the failure that the frame carries (its code, and the stage in the message), kInternal (not what was asked for:
// another step, missing or foreign results, a token or timing out of range, NaN; names it).
absl::StatusOr<std::vector<StepOutput>> DecodeFrame(const v1::StepFrame& frame, const StepPlan& plan,
                                                    const PipelineShape& shape);

}  // namespace tandem::coordinator
