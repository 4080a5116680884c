// The metadata by which both halves of a gRPC link agree on the epoch.
#pragma once

namespace tandem::links {

// Sent by the dialling side with the call, and back by the serving side when it accepts the stream: until then the
// caller does not know whether it is served.
inline constexpr char kEpochMetadata[] = "tandem-epoch";

}  // namespace tandem::links
