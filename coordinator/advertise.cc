#include "coordinator/advertise.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"

namespace tandem::coordinator {
namespace {

// An address for documentation (RFC 5737): nobody's, so that only the default route leads there.
constexpr char kFarAway[] = "192.0.2.1";

bool IsWildcard(const std::string& host) {
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return v4.s_addr == INADDR_ANY;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

// The IPv4 address that the system would send from; "" without a default route. Nothing is sent.
std::string DefaultRouteAddress() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return "";
  sockaddr_in far = {};
  far.sin_family = AF_INET;
  far.sin_port = htons(9);
  inet_pton(AF_INET, kFarAway, &far.sin_addr);
  sockaddr_in local = {};
  socklen_t size = sizeof(local);
  char text[INET_ADDRSTRLEN] = {};
  const bool found = connect(fd, reinterpret_cast<const sockaddr*>(&far), sizeof(far)) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 &&
                     inet_ntop(AF_INET, &local.sin_addr, text, sizeof(text)) != nullptr;
  close(fd);
  return found ? text : "";
}

}  // namespace

absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise, const std::string& listen, int port) {
  std::string host;
  int given_port = 0;
  if (!advertise.empty()) {
    TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(advertise, &host, &given_port));
    return proto_support::JoinAddress(host, given_port == 0 ? port : given_port);
  }
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(listen, &host, &given_port));
  if (IsWildcard(host)) host = DefaultRouteAddress();
  if (host.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "listening on ", listen, ", but this machine has no default route that tells its address: give --advertise"));
  }
  return proto_support::JoinAddress(host, port);
}

}  // namespace tandem::coordinator
