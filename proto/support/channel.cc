#include "proto/support/channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdlib>

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::proto_support {
namespace {

// A peer that vanished without closing its connection is noticed after at most these two added up.
constexpr int kKeepaliveIntervalMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;
// Pings more frequent than this, without data, are a client's fault. Below the interval above, with room for jitter.
constexpr int kMinPingIntervalMs = 5000;
// A member that restarts is found again within a second or two.
constexpr int kMinReconnectMs = 100;
constexpr int kMaxReconnectMs = 2000;

}  // namespace

void PrepareGrpc() {
  // The default of 5 s delays the end of idle streams and thereby the shutdown of servers.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "100", /*overwrite=*/0);
  // What gRPC would print (a port in use, among others) reaches our own messages as an error.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // Protobuf would print what peers send wrong, unformatted, beside our log.
  google::protobuf::SetLogHandler(nullptr);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  args.SetMaxSendMessageSize(kMaxMessageBytes);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Idle streams (a cluster that nobody asks) must notice a dead peer too.
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kMinReconnectMs);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  // Members are reached directly: a proxy set for web access must not swallow the cluster's traffic.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

void ConfigureServer(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
}

absl::Status ParseAddress(absl::string_view address, std::string* host, int* port) {
  const auto error = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("address '", address.substr(0, 300), "': ", what, "; write host:port, or [host]:port for IPv6"));
  };
  absl::string_view name, digits;
  if (!address.empty() && address.front() == '[') {
    const size_t close = address.find(']');
    if (close == absl::string_view::npos) return error("no ']'");
    name = address.substr(1, close - 1);
    if (address.substr(close + 1, 1) != ":") return error("no port");
    digits = address.substr(close + 2);
  } else {
    const size_t colon = address.rfind(':');
    if (colon == absl::string_view::npos) return error("no port");
    name = address.substr(0, colon);
    if (name.find(':') != absl::string_view::npos) return error("more than one ':'");
    digits = address.substr(colon + 1);
  }
  if (name.empty()) return error("no host");
  // SimpleAtoi also takes blanks and signs, which no port has.
  const bool is_number =
      !digits.empty() && digits.size() <= 5 && digits.find_first_not_of("0123456789") == absl::string_view::npos;
  int value = 0;
  if (!is_number || !absl::SimpleAtoi(digits, &value) || value > 65535) return error("port is no number up to 65535");
  *host = std::string(name);
  *port = value;
  return absl::OkStatus();
}

std::string JoinAddress(absl::string_view host, int port) {
  if (host.find(':') != absl::string_view::npos) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::Status CheckListenAddress(absl::string_view address, bool insecure) {
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(ParseAddress(address, &host, &port));
  if (insecure || IsLoopback(host)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("will not listen on ", address,
                   ": traffic is neither encrypted nor authenticated, so anybody who reaches this port could use the "
                   "cluster. Listen "
                   "on 127.0.0.1, or add --insecure if every machine of this network is trusted"));
}

}  // namespace tandem::proto_support
