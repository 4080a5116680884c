// A cluster seen by a client: stubs of the services with errors turned into Status.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/text_model.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "tandem/v1/generate.grpc.pb.h"

namespace tandem::cli {

// Thread-compatible. `server` is host:port; nothing is sent until the first call.
class RemoteModel : public TextModel {
 public:
  RemoteModel(const std::string& server, std::string model);
  absl::Status Generate(const v1::GenerateRequest& request, Interrupt& interrupt,
                        const std::function<void(const v1::GenerateResponse&)>& on_response) override;
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request, Interrupt& interrupt) override;

 private:
  const std::string server_, model_;
  std::unique_ptr<v1::Tandem::Stub> stub_;
};

// Errors: kUnavailable naming the server and what to check, else what the server answered.
absl::StatusOr<v1::ClusterState> FetchState(const std::string& server);
absl::StatusOr<v1::PlanReply> FetchPlan(const std::string& server, uint32_t context);
absl::StatusOr<v1::TokenizeResponse> RemoteTokenize(const std::string& server, const v1::TokenizeRequest& request);
absl::StatusOr<v1::DetokenizeResponse> RemoteDetokenize(const std::string& server,
                                                        const v1::DetokenizeRequest& request);
// The model of that name, or the only one for "". Errors also: kNotFound (names those there are), kUnavailable (no
// pipeline serves it).
absl::StatusOr<v1::Model> FetchModel(const std::string& server, const std::string& name);

}  // namespace tandem::cli
