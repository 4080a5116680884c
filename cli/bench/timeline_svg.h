// The chart of `tandem bench --chart`.
#pragma once

#include <cstddef>
#include <string>

#include "cli/bench/stage_timeline.h"

namespace tandem::cli {

// Most steps that a chart shows: more bars than this would be thinner than a few pixels.
inline constexpr size_t kMaxChartSteps = 300;

// An SVG document with a row a stage, a bar a step in a colour between decode's and prefill's by the share of its
// tokens, each row's utilisation, and a time axis. Shows the kMaxChartSteps steps in the middle of the load. No
// background, and colours that read on a light one as on a dark one.
std::string TimelineSvg(const StageTimeline& timeline);

}  // namespace tandem::cli
