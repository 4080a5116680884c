// Which worker of a pipeline holds which layers. Pure: from costs, measured devices and memory to a placement with its
// prediction.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/placement/cost_model.h"

namespace tandem::coordinator {

struct StagePlan {
  int32_t device = 0;  // index into PlanInput::devices
  std::string name;    // its name
  int32_t first_layer = 0, end_layer = 0;
  engine::StageMemory memory;
  uint64_t memory_bytes = 0;  // what the device offers
  double decode_s = 0;        // of a decoded token, without the wire
  double chunk_s = 0;         // of a prefill chunk of max_step_tokens, without the wire
  double busy_s = 0;          // of a token of the expected mix of prompts and answers (CostModel::BusySeconds)
  // The hop to the next stage; of the last stage without meaning, 0 seconds.
  engine::TensorType sends = engine::TensorType::kF32;
  double hop_s = 0;        // of a decoded token
  double chunk_hop_s = 0;  // of a prefill chunk
};

struct Plan {
  std::vector<StagePlan> stages;  // in pipeline order
  int32_t num_pages = 0, page_tokens = 0, context = 0, max_step_tokens = 0;
  double decode_tokens_per_s = 0;   // one sequence: the stages one after the other, and the hops
  double prefill_tokens_per_s = 0;  // a long prompt: its chunks follow each other, so the slowest stage or hop counts
  double tokens_per_s = 0;          // many requests, of the expected mix: the slowest stage or hop counts
};

// Finds contiguous ranges of layers that fit memory and decode fastest: the sum of the stages' times and of the hops is
// what a token of one sequence takes. Placements within kDecodeSlack of the fastest count as equal; of those the one
// whose busiest stage is least busy with the expected mix of prompts and answers is taken, on which the speed of many
// requests depends. (So equal workers get equal shares, where the sum alone would not tell one cut from another.) A
// worker that only slows things down gets no layers, but min_stages of them get at least one each where that is
// possible.
//
// Exact for a given order of the workers (dynamic programming over layers). Orders tried: that of `devices`, and, up to
// kMaxOrderedDevices, those with every pair of workers first and last: only the ends differ from the middle (embedding,
// head), so no other order is better unless layers differ in size.
//
// KV pages: enough for max_sequences full contexts, less if memory is short, never less than one full context.
//
// Errors: kInvalidArgument (no devices; a measure that is not positive; names it), kResourceExhausted (no placement
// fits; says what is needed and what each worker offers).
absl::StatusOr<Plan> PlanPlacement(const PlanInput& input);

inline constexpr double kDecodeSlack = 0.10;
inline constexpr int kMaxOrderedDevices = 8;

// Fills in the hops of a plan, and its predictions, from the links that are known by now; PlanPlacement has done it
// with those known before. Where input.activations leaves the choice open, a hop is F32 unless its link would be the
// bottleneck: if a chunk takes longer on the wire than on the slowest stage, the hop gets the widest of F32, F16 and
// Q8_0 that does not, else the narrowest that rows fit. (BF16 is no narrower than F16 and coarser; it is for models
// whose activations are beyond what a half can hold.) Of `input` only hidden, max_step_tokens, links and activations
// are read.
void PlanHops(const PlanInput& input, Plan* plan);

// A table for people: layers, memory and time of each stage, then what is predicted.
std::string FormatPlan(const Plan& plan);

}  // namespace tandem::coordinator
