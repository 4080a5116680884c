#include "coordinator/membership/registry.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"
#include "proto/support/protocol_version.h"

namespace tandem::coordinator {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxAddressBytes = 256;   // a DNS name has at most 253, without the port
constexpr size_t kMaxCpuModelBytes = 128;  // x86's own limit is 48

// A worker's own words are printed on terminals and in logs.
absl::Status CheckWords(const char* field, const std::string& words, size_t limit) {
  if (words.size() > limit) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has ", words.size(), " bytes, limit ", limit));
  }
  const auto unprintable = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(words.begin(), words.end(), unprintable)) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has control characters"));
  }
  return absl::OkStatus();
}

absl::Status CheckName(const std::string& name) {
  if (name.empty()) return absl::InvalidArgumentError("the name is empty");
  return CheckWords("the name", name, kMaxNameBytes);
}

absl::Status CheckDevice(const v1::Device& device) {
  TANDEM_RETURN_IF_ERROR(CheckWords("device: isa", device.isa(), kMaxNameBytes));
  TANDEM_RETURN_IF_ERROR(CheckWords("device: cpu_model", device.cpu_model(), kMaxCpuModelBytes));
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  if (device.memory_bytes() == 0) return absl::InvalidArgumentError("device: memory_bytes is 0");
  if (!positive(device.memory_bandwidth())) {
    return absl::InvalidArgumentError(
        absl::StrCat("device: memory_bandwidth is ", device.memory_bandwidth(), " bytes/s, must be positive"));
  }
  if (!positive(device.int8_macs())) {
    return absl::InvalidArgumentError(
        absl::StrCat("device: int8_macs is ", device.int8_macs(), " a second, must be positive"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<const Member*> Registry::Add(uint64_t id, const v1::Hello& hello, Time now) {
  if (hello.protocol_version() != proto_support::kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the worker speaks protocol version ", hello.protocol_version(),
                                                      ", the coordinator version ", proto_support::kProtocolVersion,
                                                      ": install the same release on both"));
  }
  TANDEM_RETURN_IF_ERROR(CheckName(hello.name()));
  TANDEM_RETURN_IF_ERROR(CheckWords("the address", hello.address(), kMaxAddressBytes));
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(hello.address(), &host, &port));
  if (port == 0) return absl::InvalidArgumentError(absl::StrCat("address ", hello.address(), " has no port"));
  TANDEM_RETURN_IF_ERROR(CheckDevice(hello.device()));
  Member member;
  member.id = id;
  member.hello = hello;
  member.hello.set_name(UniqueName(hello.name()));
  member.last_heard = now;
  const auto [it, added] = members_.emplace(id, std::move(member));
  if (!added) return absl::InternalError(absl::StrCat("member ", id, " exists already"));
  return &it->second;
}

void Registry::Heard(uint64_t id, Time now) {
  if (auto it = members_.find(id); it != members_.end()) it->second.last_heard = std::max(it->second.last_heard, now);
}

void Registry::SetMemoryUsed(uint64_t id, uint64_t bytes) {
  if (auto it = members_.find(id); it != members_.end()) it->second.memory_used = bytes;
}

std::vector<uint64_t> Registry::Expired(Time now) const {
  std::vector<uint64_t> expired;
  for (const auto& [id, member] : members_) {
    if (now - member.last_heard >= lease_) expired.push_back(id);
  }
  return expired;
}

const Member* Registry::Find(uint64_t id) const {
  auto it = members_.find(id);
  return it == members_.end() ? nullptr : &it->second;
}

std::string Registry::UniqueName(const std::string& wanted) const {
  const auto taken = [this](const std::string& name) {
    return std::any_of(members_.begin(), members_.end(),
                       [&name](const auto& entry) { return entry.second.hello.name() == name; });
  };
  std::string name = wanted;
  for (int number = 2; taken(name); ++number) name = absl::StrCat(wanted, "-", number);
  return name;
}

}  // namespace tandem::coordinator
