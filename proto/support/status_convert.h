// absl::Status <-> grpc::Status, the one place where they meet. Code numbers are the same by design of both.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace tandem::proto_support {

grpc::Status ToGrpc(const absl::Status& status);
// A code that this build does not know becomes kUnknown.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace tandem::proto_support
