#include "coordinator/scheduler/retry_hint.h"

#include <cmath>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tandem::coordinator {
namespace {

constexpr char kPayload[] = "tandem.retry_ms";

}  // namespace

absl::Status Overloaded(absl::string_view what, double retry_s) {
  const int64_t milliseconds = std::llround(retry_s * 1000);
  absl::Status status =
      absl::ResourceExhaustedError(absl::StrCat(what, ": retry in about ", std::llround(std::ceil(retry_s)), " s"));
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(milliseconds)));
  return status;
}

std::optional<int64_t> RetryMilliseconds(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  int64_t milliseconds = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) return std::nullopt;
  return milliseconds;
}

}  // namespace tandem::coordinator
