#include "coordinator/placement/cluster_toml.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr char kWorker[] = "[[worker]]\nname = \"desk\"\nmemory_gib = 24\nbandwidth_gbs = 45\nint8_tops = 1.6\n";

void ExpectError(const std::string& text, const std::string& expected) {
  const auto cluster = ParseClusterToml(text);
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr(expected));
}

TEST(ClusterTomlTest, WorkersAndLink) {
  const auto cluster = ParseClusterToml(std::string(kWorker) +
                                        "[[worker]]\nname = \"attic\"\nmemory_gib = 7.5\nbandwidth_gbs = 20\n"
                                        "int8_tops = 0.5\n[link]\nlatency_ms = 0.5\nbandwidth_mbps = 100\n");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->devices.size(), 2u);
  EXPECT_EQ(cluster->devices[0].name, "desk");
  EXPECT_EQ(cluster->devices[0].memory_bytes, uint64_t{24} << 30);
  EXPECT_DOUBLE_EQ(cluster->devices[0].bandwidth, 45e9);
  EXPECT_DOUBLE_EQ(cluster->devices[0].int8_macs, 0.8e12);
  EXPECT_EQ(cluster->devices[1].memory_bytes, uint64_t{15} << 29);
  EXPECT_DOUBLE_EQ(cluster->link.latency_s, 0.5e-3);
  EXPECT_DOUBLE_EQ(cluster->link.bytes_per_s, 12.5e6);
}

TEST(ClusterTomlTest, LinkIsOptional) {
  const auto cluster = ParseClusterToml(kWorker);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->link.latency_s, LinkCost().latency_s);
}

TEST(ClusterTomlTest, ManyAlike) {
  const std::string worker = kWorker;
  const auto cluster = ParseClusterToml(worker + "count = 1000\n");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->devices.size(), 1000u);
  EXPECT_EQ(cluster->devices.front().name, "desk-1");
  EXPECT_EQ(cluster->devices.back().name, "desk-1000");
  EXPECT_EQ(cluster->devices.back().memory_bytes, uint64_t{24} << 30);
  for (const std::string value : {"0", "-1", "4097", "1.5", "\"2\"", "true", "9223372036854775807"}) {
    ExpectError(worker + "count = " + value + "\n", "line 6: \"count\" must be a whole number from 1 to 4096");
  }
  ExpectError(
      worker + "count = 2\n" + "[[worker]]\nname = \"desk-2\"\nmemory_gib = 1\nbandwidth_gbs = 1\nint8_tops = 1\n",
      "the name \"desk-2\" is taken");
  ExpectError(
      worker + "count = 4096\n" + "[[worker]]\nname = \"a\"\nmemory_gib = 1\nbandwidth_gbs = 1\nint8_tops = 1\n",
      "more than 4096 workers");
}

TEST(ClusterTomlTest, SyntaxErrorNamesTheLine) { ExpectError("\n[[worker]\n", "line 2"); }
TEST(ClusterTomlTest, NoWorker) {
  ExpectError("", "no workers");
  ExpectError("worker = []", "no workers");
  ExpectError("worker = [1]", "must be tables");
}
TEST(ClusterTomlTest, UnknownKey) {
  ExpectError(std::string(kWorker) + "gpu = 1\n", "line 6: unknown key \"gpu\"");
  ExpectError(std::string(kWorker) + "[links]\n", "unknown key \"links\"");
  ExpectError(std::string(kWorker) + "[link]\nlatency = 1\n", "unknown key \"latency\"");
}
TEST(ClusterTomlTest, MissingKey) {
  ExpectError("[[worker]]\nname = \"a\"\nmemory_gib = 1\nbandwidth_gbs = 1\n", "\"int8_tops\" is missing");
  ExpectError("[[worker]]\nmemory_gib = 1\n", "a worker needs a \"name\"");
}
TEST(ClusterTomlTest, ValuesMustBePositiveNumbers) {
  const std::string rest = "bandwidth_gbs = 1\nint8_tops = 1\n";
  for (const std::string value : {"0", "-1", "\"much\"", "nan", "inf"}) {
    ExpectError("[[worker]]\nname = \"a\"\nmemory_gib = " + value + "\n" + rest, "line 3: \"memory_gib\" must be");
  }
  ExpectError("[[worker]]\nname = \"a\"\nmemory_gib = 1e300\n" + rest, "beyond any machine");
}
TEST(ClusterTomlTest, NamesAreUnique) { ExpectError(std::string(kWorker) + kWorker, "\"desk\" is taken"); }
TEST(ClusterTomlTest, LinkMustBeATable) { ExpectError("link = 3\n" + std::string(kWorker), "must be a table"); }

}  // namespace
}  // namespace tandem::coordinator
