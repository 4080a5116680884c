#include "cli/remote_model.h"

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "proto/support/status_convert.h"

namespace tandem::cli {
namespace {

// A control call that takes longer is stuck: the server answers these from memory.
constexpr std::chrono::seconds kControlDeadline{10};

absl::Status Explain(const grpc::Status& status, const std::string& server) {
  absl::Status converted = proto_support::FromGrpc(status);
  const std::string message(converted.message());
  // gRPC's own words for a refused connection do not say what to do.
  // (A coordinator may quote the like of a worker, with words of its own in front.)
  if (absl::IsUnavailable(converted) &&
      (absl::StartsWith(message, "failed to connect") || absl::StartsWith(message, "DNS"))) {
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", server, " (", message,
                     "); start one with `tandem up MODEL.gguf`, or name another with --server"));
  }
  if (absl::IsUnavailable(converted) && absl::StartsWith(message, "Socket closed")) {
    return absl::UnavailableError(
        absl::StrCat("the coordinator at ", server, " went away in the middle of the answer"));
  }
  return converted;
}

absl::Status CheckServer(const std::string& server) {
  std::string host;
  int port = 0;
  return proto_support::ParseAddress(server, &host, &port);
}

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, const std::string& server) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kControlDeadline);
  Response response;
  if (grpc::Status status = (stub.*method)(&context, request, &response); !status.ok()) return Explain(status, server);
  return response;
}

}  // namespace

RemoteModel::RemoteModel(const std::string& server, std::string model)
    : server_(server), model_(std::move(model)), stub_(v1::Tandem::NewStub(proto_support::MakeChannel(server))) {}

absl::Status RemoteModel::Generate(const v1::GenerateRequest& request, Interrupt& interrupt,
                                   const std::function<void(const v1::GenerateResponse&)>& on_response) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server_));
  v1::GenerateRequest named = request;
  named.set_model(model_);
  grpc::ClientContext context;
  interrupt.OnInterrupt([&context] { context.TryCancel(); });
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader = stub_->Generate(&context, named);
  v1::GenerateResponse response;
  while (reader->Read(&response)) on_response(response);
  const grpc::Status status = reader->Finish();
  interrupt.OnInterrupt({});
  if (interrupt.requested()) return absl::CancelledError("interrupted");
  return status.ok() ? absl::OkStatus() : Explain(status, server_);
}

absl::StatusOr<v1::EmbedResponse> RemoteModel::Embed(const v1::EmbedRequest& request, Interrupt& interrupt) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server_));
  v1::EmbedRequest named = request;
  named.set_model(model_);
  grpc::ClientContext context;
  interrupt.OnInterrupt([&context] { context.TryCancel(); });
  v1::EmbedResponse response;
  const grpc::Status status = stub_->Embed(&context, named, &response);
  interrupt.OnInterrupt({});
  if (interrupt.requested()) return absl::CancelledError("interrupted");
  if (!status.ok()) return Explain(status, server_);
  return response;
}

absl::StatusOr<v1::ClusterState> FetchState(const std::string& server) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server));
  auto stub = v1::Cluster::NewStub(proto_support::MakeChannel(server));
  return Call(*stub, &v1::Cluster::Stub::GetState, v1::GetStateRequest(), server);
}

absl::StatusOr<v1::PlanReply> FetchPlan(const std::string& server, uint32_t context) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server));
  auto stub = v1::Cluster::NewStub(proto_support::MakeChannel(server));
  v1::PlanRequest request;
  request.set_context(context);
  return Call(*stub, &v1::Cluster::Stub::Plan, request, server);
}

absl::StatusOr<v1::TokenizeResponse> RemoteTokenize(const std::string& server, const v1::TokenizeRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server));
  auto stub = v1::Tandem::NewStub(proto_support::MakeChannel(server));
  return Call(*stub, &v1::Tandem::Stub::Tokenize, request, server);
}

absl::StatusOr<v1::DetokenizeResponse> RemoteDetokenize(const std::string& server,
                                                        const v1::DetokenizeRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server));
  auto stub = v1::Tandem::NewStub(proto_support::MakeChannel(server));
  return Call(*stub, &v1::Tandem::Stub::Detokenize, request, server);
}

absl::StatusOr<v1::Model> FetchModel(const std::string& server, const std::string& name) {
  TANDEM_RETURN_IF_ERROR(CheckServer(server));
  auto stub = v1::Tandem::NewStub(proto_support::MakeChannel(server));
  TANDEM_ASSIGN_OR_RETURN(const v1::ListModelsResponse listed,
                          Call(*stub, &v1::Tandem::Stub::ListModels, v1::ListModelsRequest(), server));
  std::string names;
  for (const v1::Model& model : listed.models()) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", model.name());
    if (!name.empty() ? model.name() != name : listed.models_size() > 1) continue;
    if (model.ready()) return model;
    return absl::UnavailableError(absl::StrCat("no pipeline serves ", model.name(), " at ", server,
                                               " yet: `tandem status --server ", server, "` says what is missing"));
  }
  return absl::NotFoundError(
      absl::StrCat(server, " has ", names.empty() ? "no model" : names, "; --model is \"", name, "\""));
}

}  // namespace tandem::cli
