// The result of a load for people and for programs.
#pragma once

#include <string>

#include "cli/bench/load_report.h"
#include "cli/bench/stage_timeline.h"

namespace tandem::cli {

// What was asked, and of whom.
struct LoadDescription {
  std::string server, model;
  std::string arrivals;                      // "8 clients", "Poisson, 2.5 a second", "trace FILE"
  std::string prompt_tokens, answer_tokens;  // as given; "trace"
  uint32_t shared_prefix = 0;
  uint64_t seed = 0;
  std::string no_stages_because;  // empty: the timeline is there
};

// Lines with a final newline.
std::string ReportTable(const LoadDescription& load, const LoadReport& report, const StageTimeline& timeline);
// One object, indented, with a final newline. Units are in the keys; without stages "stages" is missing.
std::string ReportJson(const LoadDescription& load, const LoadReport& report, const StageTimeline& timeline);

}  // namespace tandem::cli
