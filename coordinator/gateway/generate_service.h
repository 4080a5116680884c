// The Tandem service: Generate, Embed, Tokenize, Detokenize, ListModels. Thin: checks, calls, converts the status.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/gateway/embedding.h"
#include "coordinator/gateway/generation.h"
#include "tandem/v1/generate.grpc.pb.h"

namespace tandem::coordinator {

// Borrows all, which must outlive it and its server. Thread-safe.
class GenerateService : public v1::Tandem::CallbackService {
 public:
  // `on_refused` is told of requests that never came to the dispatcher.
  GenerateService(const ServedModel& model, Dispatcher& dispatcher, std::function<void(absl::StatusCode)> on_refused)
      : model_(model),
        dispatcher_(dispatcher),
        generator_(model, dispatcher),
        embedder_(model, dispatcher),
        on_refused_(std::move(on_refused)) {}

  // Responses that the client does not take in time are merged into one that waits; a client that takes none until
  // kMaxPendingTokens have gathered is cut off with kResourceExhausted.
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

  static constexpr int kMaxPendingTokens = 8192;

 private:
  absl::Status DoTokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) const;
  absl::Status DoDetokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) const;

  const ServedModel& model_;
  Dispatcher& dispatcher_;
  Generator generator_;
  Embedder embedder_;
  const std::function<void(absl::StatusCode)> on_refused_;
};

}  // namespace tandem::coordinator
