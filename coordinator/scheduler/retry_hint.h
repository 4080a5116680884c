// When a client that was refused may try again, told along with the status.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::coordinator {

// kResourceExhausted: "`what`: retry in about N s", with the hint.
absl::Status Overloaded(absl::string_view what, double retry_s);
// Of a status that Overloaded made.
std::optional<int64_t> RetryMilliseconds(const absl::Status& status);

// Trailing metadata by which gRPC's own clients wait, if their retry policy lets them try again.
inline constexpr char kRetryPushbackMetadata[] = "grpc-retry-pushback-ms";

}  // namespace tandem::coordinator
