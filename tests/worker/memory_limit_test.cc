#include "worker/memory_limit.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

namespace tandem::worker {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

TEST(MemoryLimitTest, MemAvailableIsRead) {
  EXPECT_EQ(ParseMemAvailable("MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:   24641 kB\n"), 24641u * 1024);
  EXPECT_EQ(ParseMemAvailable("MemTotal:  100 kB\n"), 0u);
  EXPECT_EQ(ParseMemAvailable("MemAvailable: much kB\n"), 0u);
  EXPECT_EQ(ParseMemAvailable("MemAvailable: 18446744073709551615 kB\n"), 0u);
  EXPECT_EQ(ParseMemAvailable(""), 0u);
}

class CgroupTest : public ::testing::Test {
 protected:
  CgroupTest() {
    std::string pattern = ::testing::TempDir() + "cgroup_XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  ~CgroupTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(CgroupTest, WithoutGroupsThereIsNoLimit) {
  EXPECT_EQ(CgroupMemoryLeft(root_), kNoLimit);
  Write("/proc/self/cgroup", "0::/\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), kNoLimit);
}

TEST_F(CgroupTest, Version2CountsDroppableCacheAsLeft) {
  Write("/proc/self/cgroup", "0::/app\n");
  Write("/sys/fs/cgroup/app/memory.max", "1000000\n");
  Write("/sys/fs/cgroup/app/memory.current", "400000\n");
  Write("/sys/fs/cgroup/app/memory.stat", "anon 100000\nactive_file 7\ninactive_file 150000\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), 750000u);
}

TEST_F(CgroupTest, TheTightestAncestorCounts) {
  Write("/proc/self/cgroup", "0::/slice/app/inner\n");
  Write("/sys/fs/cgroup/slice/app/inner/memory.max", "max\n");
  Write("/sys/fs/cgroup/slice/app/memory.max", "900\n");
  Write("/sys/fs/cgroup/slice/memory.max", "500\n");
  Write("/sys/fs/cgroup/slice/memory.current", "100\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), 400u);
}

TEST_F(CgroupTest, LimitOfTheRootCountsWhereTheGroupIsNotVisible) {
  Write("/proc/self/cgroup", "0::/docker/0123\n");
  Write("/sys/fs/cgroup/memory.max", "800\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), 800u);
}

TEST_F(CgroupTest, Version1IsReadBesideVersion2) {
  Write("/proc/self/cgroup", "12:pids:/x\n5:cpu,memory:/box\n0::/\nnonsense\n");
  Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "700\n");
  Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "300\n");
  Write("/sys/fs/cgroup/memory/box/memory.stat", "inactive_file 9\ntotal_inactive_file 100\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), 500u);
}

TEST_F(CgroupTest, UsageAboveTheLimitLeavesNothing) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "700\n");
  Write("/sys/fs/cgroup/memory.current", "900\n");
  EXPECT_EQ(CgroupMemoryLeft(root_), 0u);
}

TEST(MemoryLimitTest, GivenLimitIsKept) {
  EXPECT_EQ(UsableMemory(1000), 1000u);
  EXPECT_GT(UsableMemory(0), uint64_t{16} << 20);
  EXPECT_LT(UsableMemory(kNoLimit), kNoLimit);
}

}  // namespace
}  // namespace tandem::worker
