// The step link over gRPC: a client half that dials, and the Pipeline service that takes frames off the wire.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "links/step_link.h"

namespace grpc {
class Service;
}

namespace tandem::links {

struct GrpcLinkOptions {
  std::string address;  // host:port of the next member
  uint64_t epoch = 0;
  // How long Dial waits for the connection.
  int connect_timeout_ms = 10000;
  // Called once, on a gRPC thread, when the link breaks by itself (not by Close). Must not block or destroy the link.
  std::function<void(absl::Status)> on_broken;
  // Called for each acknowledgement with the wire time in seconds of the frame it names (hand-over to acknowledgement).
  std::function<void(double wire_s)> on_ack;
};

// Connects and opens the stream. Errors: kUnavailable (no connection in time; names the address), kFailedPrecondition
// (the other end serves another epoch).
absl::StatusOr<std::unique_ptr<StepLink>> DialGrpcLink(const GrpcLinkOptions& options);

// The serving half: implements v1.Pipeline. Thread-safe.
class PipelineService {
 public:
  virtual ~PipelineService() = default;
  // Accept a stream of `epoch` from now on and pass its frames to `handler` (on gRPC threads). `on_broken` is called
  // when that stream ends by itself. Other epochs that are served go on.
  virtual void Serve(uint64_t epoch, FrameHandler handler, std::function<void(absl::Status)> on_broken) = 0;
  // Refuse streams of `epoch` and end the one that is open; when it returns its handler does not run any more. Ignores
  // an epoch that is not served.
  virtual void StopServing(uint64_t epoch) = 0;
  // The same for all epochs.
  virtual void StopServing() = 0;
  // For registration with a grpc::ServerBuilder; owned by this object.
  virtual grpc::Service* service() = 0;
};
std::unique_ptr<PipelineService> MakePipelineService();

}  // namespace tandem::links
