// Who belongs to the cluster: members, their unique names and their leases.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/clock.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::coordinator {

struct Member {
  uint64_t id = 0;
  v1::Hello hello;  // with the name in use
  Time last_heard;
  uint64_t memory_used = 0;  // bytes, by its last heartbeat
};

// Owned by the cluster thread; not thread-safe. Times are passed in.
class Registry {
 public:
  explicit Registry(std::chrono::milliseconds lease) : lease_(lease) {}

  // Admits a worker. Its name is made unique by a number behind it. The result is valid until the member is removed.
  // Errors: kFailedPrecondition (another protocol version; message has both), kInvalidArgument (no or unprintable name,
  // no address, measures that are not positive; names the field).
  absl::StatusOr<const Member*> Add(uint64_t id, const v1::Hello& hello, Time now);
  // Renews the lease. Unknown ids are ignored, here and below.
  void Heard(uint64_t id, Time now);
  void SetMemoryUsed(uint64_t id, uint64_t bytes);
  void Remove(uint64_t id) { members_.erase(id); }

  // Members not heard of for the lease time.
  std::vector<uint64_t> Expired(Time now) const;
  // Null if unknown.
  const Member* Find(uint64_t id) const;
  // In order of registration.
  const std::map<uint64_t, Member>& members() const { return members_; }

 private:
  std::string UniqueName(const std::string& wanted) const;

  const std::chrono::milliseconds lease_;
  std::map<uint64_t, Member> members_;
};

}  // namespace tandem::coordinator
