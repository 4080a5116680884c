#include "proto/support/advertise.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"

namespace tandem::proto_support {
namespace {

bool IsWildcard(const std::string& host) {
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return v4.s_addr == INADDR_ANY;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

// The local address that the system would send from, to reach `target`; "" without a route. Nothing is sent.
std::string SourceAddress(const addrinfo& target) {
  const int fd = socket(target.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return "";
  sockaddr_storage local = {};
  socklen_t size = sizeof(local);
  char text[NI_MAXHOST] = {};
  const bool found =
      connect(fd, target.ai_addr, target.ai_addrlen) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0;
  close(fd);
  return found ? text : "";
}

absl::StatusOr<std::string> SourceAddressTowards(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) != 0) found = nullptr;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> targets(found, freeaddrinfo);
  for (const addrinfo* target = targets.get(); target != nullptr; target = target->ai_next) {
    const std::string source = SourceAddress(*target);
    if (!source.empty()) return source;
  }
  return absl::UnavailableError(
      absl::StrCat("no route to ", host, ", so this machine's address is not known; give it with --advertise"));
}

}  // namespace

absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise, const std::string& listen, int port,
                                              const std::string& towards) {
  std::string host;
  int given_port = 0;
  if (!advertise.empty()) {
    TANDEM_RETURN_IF_ERROR(ParseAddress(advertise, &host, &given_port));
    return JoinAddress(host, given_port == 0 ? port : given_port);
  }
  TANDEM_RETURN_IF_ERROR(ParseAddress(listen, &host, &given_port));
  if (!IsWildcard(host)) return JoinAddress(host, port);
  std::string towards_host;
  int towards_port = 0;
  TANDEM_RETURN_IF_ERROR(ParseAddress(towards, &towards_host, &towards_port));
  TANDEM_ASSIGN_OR_RETURN(host, SourceAddressTowards(towards_host, towards_port));
  return JoinAddress(host, port);
}

}  // namespace tandem::proto_support
