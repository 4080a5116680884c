// How fast a hop is, measured before it is used.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem::links {

struct LinkSpeed {
  double round_trip_s = 0;  // of an empty message and its answer, as median
  double bytes_per_s = 0;   // of a payload, the best of a few
};

// Calls Pipeline.Probe at `address` (host:port) over a connection of its own: empty payloads first, then larger and
// larger ones up to 4 MiB, until one takes long enough to be timed. Blocks, on a sound LAN for less than 0.2 s, never
// longer than `limit`. What else the network carries in the meantime slows the result down. Errors: kUnavailable,
// kDeadlineExceeded, kUnimplemented (the other end cannot).
absl::StatusOr<LinkSpeed> MeasureLink(const std::string& address, absl::Duration limit);

}  // namespace tandem::links
