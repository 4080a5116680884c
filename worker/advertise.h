// Under which address the other members reach this worker.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tandem::worker {

// `advertise` if given (its port 0 is replaced by `port`), else the host of `listen` with `port`. Where that host is a
// wildcard (0.0.0.0, ::), the address of this machine from which `coordinator` is reached. Errors: kInvalidArgument (an
// address without form), kUnavailable (no route to the coordinator; asks for --advertise).
absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise, const std::string& listen, int port,
                                              const std::string& coordinator);

}  // namespace tandem::worker
