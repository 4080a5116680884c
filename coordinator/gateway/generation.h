// A client's generation from request to responses, without gRPC: the service and the CLI's embedded cluster share it.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/dispatcher.h"
#include "coordinator/served_model.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::coordinator {

// Takes the responses of one generation, on the dispatch thread; must not block. One response a token; then the last
// one, with last == true, finish reason, usage and timings, and the status with which the generation ended (not OK:
// kCancelled, kUnavailable, kResourceExhausted). What it captures must live until that last call.
using ResponseCallback = std::function<void(v1::GenerateResponse response, bool last, absl::Status status)>;

// Handle of a generation under way. Destroying it cancels the generation; the last response still arrives. Thread-safe.
class Generation {
 public:
  Generation(Dispatcher& dispatcher, uint64_t id) : dispatcher_(dispatcher), id_(id) {}
  ~Generation() { Cancel(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Ends the generation with kCancelled and frees its pages, unless it has ended. Idempotent.
  void Cancel() { dispatcher_.Cancel(id_); }

 private:
  Dispatcher& dispatcher_;
  const uint64_t id_;
};

// Starts generations. Borrows model and dispatcher, which must outlive it and every Generation. Thread-safe.
class Generator {
 public:
  Generator(const ServedModel& model, Dispatcher& dispatcher) : model_(model), dispatcher_(dispatcher) {}

  // Checks and tokenises on the caller's thread. `on_response` may be called before this returns; it is never called if
  // this fails. Errors: those of PrepareRequest and Dispatcher::Submit.
  absl::StatusOr<std::unique_ptr<Generation>> Start(const v1::GenerateRequest& request, ResponseCallback on_response);

 private:
  const ServedModel& model_;
  Dispatcher& dispatcher_;
};

}  // namespace tandem::coordinator
