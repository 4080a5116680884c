// Under which address workers reach this coordinator.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tandem::coordinator {

// `advertise` if given (its port 0 is replaced by `port`), else the host of `listen` with `port`. Where that host is a
// wildcard (0.0.0.0, ::), the address of this machine on its default route. Errors: kInvalidArgument (an address
// without form), kFailedPrecondition (a wildcard and no default route; asks for --advertise).
absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise, const std::string& listen, int port);

}  // namespace tandem::coordinator
