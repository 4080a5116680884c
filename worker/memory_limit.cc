#include "worker/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::worker {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// The text of a (small, virtual) file; "" if there is none.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The number in `path`; `otherwise` if there is none ("max" among others).
uint64_t ReadNumber(const std::string& path, uint64_t otherwise) {
  uint64_t value = 0;
  return absl::SimpleAtoi(absl::StripAsciiWhitespace(ReadText(path)), &value) ? value : otherwise;
}

// The value of a "key value" line.
uint64_t FindNumber(absl::string_view text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    uint64_t value = 0;
    if (absl::ConsumePrefix(&line, key) && absl::ConsumePrefix(&line, " ") && absl::SimpleAtoi(line, &value)) {
      return value;
    }
  }
  return 0;
}

// The files of one version of control groups.
struct CgroupFiles {
  const char* limit;
  const char* usage;
  const char* inactive;  // key in memory.stat: page cache that nobody used lately
};
constexpr CgroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr CgroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};

uint64_t LeftIn(const std::string& folder, const CgroupFiles& files) {
  const uint64_t limit = ReadNumber(absl::StrCat(folder, "/", files.limit), kNoLimit);
  if (limit == kNoLimit) return kNoLimit;
  const uint64_t usage = ReadNumber(absl::StrCat(folder, "/", files.usage), 0);
  const uint64_t droppable = FindNumber(ReadText(absl::StrCat(folder, "/memory.stat")), files.inactive);
  const uint64_t held = usage - std::min(usage, droppable);
  return limit - std::min(limit, held);
}

// The least that any group from `group` up to the root leaves. Inside a container the group's own path may not be
// visible; its limits then are those of the root.
uint64_t LeftUpwards(const std::string& mount, std::string group, const CgroupFiles& files) {
  uint64_t left = LeftIn(mount, files);
  while (group.size() > 1) {
    left = std::min(left, LeftIn(absl::StrCat(mount, group), files));
    group.resize(group.rfind('/'));
  }
  return left;
}

}  // namespace

uint64_t ParseMemAvailable(absl::string_view meminfo) {
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    uint64_t kib = 0;
    if (absl::ConsumePrefix(&line, "MemAvailable:") && absl::ConsumeSuffix(&line, "kB") &&
        absl::SimpleAtoi(absl::StripAsciiWhitespace(line), &kib) && kib <= kNoLimit / 1024) {
      return kib * 1024;
    }
  }
  return 0;
}

uint64_t CgroupMemoryLeft(const std::string& root) {
  uint64_t left = kNoLimit;
  const std::string groups = ReadText(absl::StrCat(root, "/proc/self/cgroup"));
  for (absl::string_view line : absl::StrSplit(groups, '\n')) {
    // hierarchy-ID:controller-list:cgroup-path; version 2 has "0::path".
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3 || fields[2].empty() || fields[2].front() != '/') continue;
    const std::string group(fields[2]);
    if (fields[0] == "0" && fields[1].empty()) {
      left = std::min(left, LeftUpwards(absl::StrCat(root, "/sys/fs/cgroup"), group, kVersion2));
    }
    for (absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      if (controller != "memory") continue;
      left = std::min(left, LeftUpwards(absl::StrCat(root, "/sys/fs/cgroup/memory"), group, kVersion1));
    }
  }
  return left;
}

uint64_t UsableMemory(uint64_t limit) {
  const uint64_t measured = std::min(ParseMemAvailable(ReadText("/proc/meminfo")), CgroupMemoryLeft(""));
  return limit > 0 ? std::min(limit, measured) : measured - measured / 20;
}

}  // namespace tandem::worker
