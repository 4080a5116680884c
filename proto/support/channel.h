// How our processes and clients connect: limits, keepalive and credentials in one place.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/channel.h>
#include <grpcpp/server_builder.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::proto_support {

// Largest message: fits the activations of a prefill chunk of 512 tokens of hidden size 16384 in F32 (32 MiB) with room
// to spare.
inline constexpr int kMaxMessageBytes = 64 << 20;

// Settings of gRPC that it reads from the environment. Call first in main, before any thread and any use of gRPC.
void PrepareGrpc();

// A channel of its own (no sharing of connections between bulk and control).
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);
// Message limits, keepalive policy and no port sharing, so that a port in use is an error.
void ConfigureServer(grpc::ServerBuilder& builder);

// Splits "host:port" or "[v6]:port". Errors: kInvalidArgument.
absl::Status ParseAddress(absl::string_view address, std::string* host, int* port);
// The reverse of ParseAddress: brackets around an IPv6 host.
std::string JoinAddress(absl::string_view host, int port);
// True for 127.0.0.0/8, ::1 and "localhost".
bool IsLoopback(absl::string_view host);
// The rule "closed by default": OK if `address` is loopback or `insecure` was given. Errors: kInvalidArgument (no
// address), kFailedPrecondition that explains --insecure.
absl::Status CheckListenAddress(absl::string_view address, bool insecure);

}  // namespace tandem::proto_support
