// A client's request for embeddings from request to response, without gRPC: the service and the CLI's embedded cluster
// share it. Each input is a sequence of its own for the dispatcher.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/dispatcher.h"
#include "coordinator/served_model.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::coordinator {

// Called once, on the dispatch thread; must not block. Errors: kCancelled, kUnavailable, kResourceExhausted,
// kOutOfRange (v1.Tandem.Embed), with the input in front.
using EmbedCallback = std::function<void(absl::StatusOr<v1::EmbedResponse> response)>;

// Handle of a batch under way. Destroying it cancels the batch; the callback still comes. Thread-safe.
class EmbedBatch {
 public:
  virtual ~EmbedBatch() = default;
  // Ends the batch with kCancelled and frees its pages, unless it has ended. Idempotent.
  virtual void Cancel() = 0;
};

// Borrows model and dispatcher, which must outlive it and every batch. Thread-safe.
class Embedder {
 public:
  Embedder(const ServedModel& model, Dispatcher& dispatcher) : model_(model), dispatcher_(dispatcher) {}

  // Checks and tokenises on the caller's thread. `on_done` may be called before this returns; it is never called if
  // this fails. If one input fails, so does the batch. Errors: kNotFound (model or adapter), kInvalidArgument (no
  // inputs or too many, one that is empty or longer than the context, a pooling that does not exist or that the model's
  // file asks for and Tandem does not have), those of Dispatcher::Submit.
  absl::StatusOr<std::unique_ptr<EmbedBatch>> Start(const v1::EmbedRequest& request, EmbedCallback on_done);

  static constexpr int kMaxInputs = 256;

 private:
  const ServedModel& model_;
  Dispatcher& dispatcher_;
};

// The pooling that `asked` means for `model`. Errors: kInvalidArgument.
absl::StatusOr<v1::Pooling> ChoosePooling(v1::Pooling asked, const ServedModel& model);

}  // namespace tandem::coordinator
