// Under which address the other members of a cluster reach this one.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tandem::proto_support {

// A host beyond the default route that nobody has (RFC 5737): `towards` for a member that waits for others to come.
inline constexpr char kBeyondDefaultRoute[] = "192.0.2.1:9";

// `advertise` if given (its port 0 is replaced by `port`), else the host of `listen` with `port`. Where that host is a
// wildcard (0.0.0.0, ::), the address from which this machine reaches `towards`, host:port. Errors: kInvalidArgument
// (an address without form), kUnavailable (no route there; asks for --advertise).
absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise, const std::string& listen, int port,
                                              const std::string& towards);

}  // namespace tandem::proto_support
