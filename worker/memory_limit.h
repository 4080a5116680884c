// How much memory a worker may use on this machine.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::worker {

// Bytes that /proc/meminfo (its text) says can be had without swapping; 0 if it does not say.
uint64_t ParseMemAvailable(absl::string_view meminfo);

// Bytes left under the memory limits of the control groups (v1 or v2) that this process is in, its ancestors' included;
// UINT64_MAX without a limit. `root` is "" but in tests, which build the two trees /proc/self/cgroup and /sys/fs/cgroup
// under a folder of theirs. Page cache that the kernel can drop counts as left.
uint64_t CgroupMemoryLeft(const std::string& root);

// The least of: memory that can be had, what control groups leave, and `limit` (0: none). Without `limit` a twentieth
// stays free for the rest of the machine.
uint64_t UsableMemory(uint64_t limit);

}  // namespace tandem::worker
