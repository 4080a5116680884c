#include "proto/support/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::proto_support {
namespace {

using ::testing::HasSubstr;

TEST(ChannelTest, AddressesSplitAndJoin) {
  struct Case {
    const char* address;
    const char* host;
    int port;
  };
  for (const Case& c : {Case{"localhost:7000", "localhost", 7000}, Case{"10.0.0.1:0", "10.0.0.1", 0},
                        Case{"[::1]:65535", "::1", 65535}, Case{"[fe80::1%eth0]:1", "fe80::1%eth0", 1}}) {
    std::string host;
    int port = -1;
    ASSERT_TRUE(ParseAddress(c.address, &host, &port).ok()) << c.address;
    EXPECT_EQ(host, c.host);
    EXPECT_EQ(port, c.port);
    EXPECT_EQ(JoinAddress(host, port), c.address);
  }
}

TEST(ChannelTest, BadAddressReturnsInvalidArgumentNamingIt) {
  for (const char* address : {"", "host", "host:", ":80", "host:65536", "host:-1", "host: 1", "host:1x", "::1:80",
                              "[::1]", "[::1:80", "[]:80", "[::1]80", "host:999999999999"}) {
    std::string host;
    int port = 0;
    const absl::Status status = ParseAddress(address, &host, &port);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()), HasSubstr(address));
  }
}

TEST(ChannelTest, LoopbackIsOnlyWhatCannotLeaveTheMachine) {
  for (const char* host : {"127.0.0.1", "127.9.9.9", "::1", "localhost"}) EXPECT_TRUE(IsLoopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "127.0.0.1.example.org", "localhost.example.org",
                           "", "127.1", "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(ChannelTest, ListeningBeyondLoopbackNeedsInsecure) {
  EXPECT_TRUE(CheckListenAddress("127.0.0.1:7000", false).ok());
  const absl::Status status = CheckListenAddress("0.0.0.0:7000", false);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--insecure"));
  EXPECT_TRUE(CheckListenAddress("0.0.0.0:7000", true).ok());
  EXPECT_EQ(CheckListenAddress("nonsense", true).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem::proto_support
