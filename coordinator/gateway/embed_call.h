// The coordinator's end of an Embed call.
#pragma once

#include <functional>

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "coordinator/gateway/embedding.h"

namespace tandem::coordinator {

// Answers `request` into `response`, which gRPC keeps until the call has ended. The client's cancel, or its deadline,
// ends the batch. `on_refused` is told of a request that never came to the dispatcher.
grpc::ServerUnaryReactor* ServeEmbed(Embedder& embedder, const v1::EmbedRequest& request, v1::EmbedResponse* response,
                                     const std::function<void(absl::StatusCode)>& on_refused);

}  // namespace tandem::coordinator
