#include "proto/support/status_convert.h"

#include <string>

#include "absl/strings/string_view.h"

namespace tandem::proto_support {
namespace {

// Status messages travel in HTTP/2 trailers, whose list gRPC limits to 8 KiB; a byte may take three there.
constexpr size_t kMaxMessageLength = 2048;

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const absl::string_view message = status.message().substr(0, kMaxMessageLength);
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()), std::string(message));
}

absl::Status FromGrpc(const grpc::Status& status) {
  const int code = static_cast<int>(status.error_code());
  if (code == 0) return absl::OkStatus();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, status.error_message());
}

}  // namespace tandem::proto_support
