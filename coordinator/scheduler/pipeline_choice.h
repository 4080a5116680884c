// Which of several pipelines a sequence goes to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "coordinator/scheduler/scheduler.h"

namespace tandem::coordinator {

// A pipeline that serves.
struct PipelineOffer {
  const Scheduler* scheduler = nullptr;
  double tokens_per_s = 1;  // how fast it is beside the others
};

// The index of the pipeline that would be through first with all it has to do and with `spec`: the one that holds most
// of its prompt already, unless that one has so much more to do than another that computing the prompt again is
// quicker; where nobody knows the prompt, the least loaded one. Pipelines that could never take it, or whose queue is
// full, come last. `offers` must not be empty.
size_t ChoosePipeline(std::span<const PipelineOffer> offers, const SequenceSpec& spec);

// A sequence that is better moved.
struct PipelineMove {
  uint64_t sequence = 0;
  size_t from = 0, to = 0;
};

// A sequence that waits for pages where there are none, while another pipeline has enough, and nobody who waits.
std::optional<PipelineMove> FindMove(std::span<const PipelineOffer> offers, Time now);

// For a pipeline that has just come: a sequence of the most loaded one, the youngest, that would end earlier if it
// began anew in the least loaded one.
std::optional<PipelineMove> FindShare(std::span<const PipelineOffer> offers);

}  // namespace tandem::coordinator
