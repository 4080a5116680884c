// What the fuzzer and the unit tests do with the texts that `tandem bench` parses. Any crash or broken promise (abort)
// is a finding.
#include <cmath>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "cli/bench/length_distribution.h"
#include "cli/bench/request_trace.h"

namespace tandem::cli {

// True if the text is a trace or a distribution of lengths.
bool FuzzTrace(absl::string_view text) {
  const auto lengths = LengthDistribution::Parse(text);
  if (lengths.ok()) {
    Random random(text.size(), 1);
    const uint32_t drawn = lengths->Draw(random);
    if (drawn < 1 || drawn > lengths->largest() || lengths->largest() > kMaxTokens) std::abort();
  } else if (!absl::IsInvalidArgument(lengths.status())) {
    std::abort();
  }
  const auto trace = ParseTrace(text);
  if (!trace.ok()) {
    const absl::string_view message = trace.status().message();
    if (!absl::IsInvalidArgument(trace.status())) std::abort();
    if (!absl::StartsWith(message, "line ") && message != "the trace has no lines") std::abort();
    return lengths.ok();
  }
  double before_s = 0;
  for (const TraceEntry& entry : *trace) {
    if (!(entry.at_s >= before_s) || !std::isfinite(entry.at_s)) std::abort();
    before_s = entry.at_s;
    if (entry.max_tokens < 1 || entry.max_tokens > kMaxTokens || entry.prompt_tokens > kMaxTokens) std::abort();
    if ((entry.prompt_tokens == 0) == entry.prompt.empty()) std::abort();
  }
  return true;
}

}  // namespace tandem::cli
