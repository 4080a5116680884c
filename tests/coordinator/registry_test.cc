#include "coordinator/membership/registry.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/support/protocol_version.h"

namespace tandem::coordinator {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Hello Hello(const std::string& name = "desk") {
  v1::Hello hello;
  hello.set_protocol_version(proto_support::kProtocolVersion);
  hello.set_name(name);
  hello.set_address("127.0.0.1:9000");
  hello.mutable_device()->set_memory_bytes(1 << 30);
  hello.mutable_device()->set_memory_bandwidth(1e10);
  hello.mutable_device()->set_int8_macs(1e11);
  return hello;
}

class RegistryTest : public ::testing::Test {
 protected:
  void ExpectRefused(const v1::Hello& hello, absl::StatusCode code, const std::string& message) {
    const auto member = registry_.Add(99, hello, now_);
    EXPECT_EQ(member.status().code(), code);
    EXPECT_THAT(std::string(member.status().message()), HasSubstr(message));
    EXPECT_THAT(registry_.members(), IsEmpty());
  }

  Registry registry_{milliseconds(1000)};
  Time now_;
};

TEST_F(RegistryTest, WordsThatATerminalWouldObeyAreRefused) {
  v1::Hello hello = Hello();
  hello.mutable_device()->set_cpu_model("fast\x1b[2J");
  ExpectRefused(hello, absl::StatusCode::kInvalidArgument, "cpu_model has control characters");
  hello = Hello();
  hello.mutable_device()->set_isa(std::string(65, 'x'));
  ExpectRefused(hello, absl::StatusCode::kInvalidArgument, "isa has 65 bytes, limit 64");
  hello = Hello();
  hello.set_address(std::string(300, 'h') + ":9000");
  ExpectRefused(hello, absl::StatusCode::kInvalidArgument, "the address has 305 bytes");
}

TEST_F(RegistryTest, NamesAreMadeUnique) {
  EXPECT_EQ((*registry_.Add(1, Hello("a"), now_))->hello.name(), "a");
  EXPECT_EQ((*registry_.Add(2, Hello("a"), now_))->hello.name(), "a-2");
  EXPECT_EQ((*registry_.Add(3, Hello("a"), now_))->hello.name(), "a-3");
  registry_.Remove(2);
  EXPECT_EQ((*registry_.Add(4, Hello("a"), now_))->hello.name(), "a-2");
}

TEST_F(RegistryTest, LeaseEndsWithoutHeartbeats) {
  ASSERT_TRUE(registry_.Add(1, Hello(), now_).ok());
  ASSERT_TRUE(registry_.Add(2, Hello(), now_).ok());
  registry_.Heard(1, now_ + milliseconds(600));
  EXPECT_THAT(registry_.Expired(now_ + milliseconds(999)), IsEmpty());
  EXPECT_THAT(registry_.Expired(now_ + milliseconds(1000)), ElementsAre(2));
  EXPECT_THAT(registry_.Expired(now_ + milliseconds(1600)), ElementsAre(1, 2));
}

TEST_F(RegistryTest, LateNewsOfAnEarlierMomentDoesNotShortenTheLease) {
  ASSERT_TRUE(registry_.Add(1, Hello(), now_).ok());
  registry_.Heard(1, now_ + milliseconds(600));
  registry_.Heard(1, now_ + milliseconds(100));
  EXPECT_THAT(registry_.Expired(now_ + milliseconds(1500)), IsEmpty());
}

TEST_F(RegistryTest, UnknownIdsAreIgnored) {
  registry_.Heard(7, now_);
  registry_.SetMemoryUsed(7, 1);
  registry_.Remove(7);
  EXPECT_EQ(registry_.Find(7), nullptr);
}

TEST_F(RegistryTest, OtherProtocolVersionIsRefusedWithBoth) {
  v1::Hello hello = Hello();
  hello.set_protocol_version(77);
  ExpectRefused(hello, absl::StatusCode::kFailedPrecondition,
                absl::StrCat("version 77, the coordinator version ", proto_support::kProtocolVersion));
}

TEST_F(RegistryTest, ImpossibleHellosAreRefused) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused(Hello(""), kInvalid, "the name is empty");
  ExpectRefused(Hello(std::string(65, 'x')), kInvalid, "the name has 65 bytes");
  ExpectRefused(Hello("a\x1b[2J"), kInvalid, "control characters");
  v1::Hello hello = Hello();
  hello.set_address("nowhere");
  ExpectRefused(hello, kInvalid, "nowhere");
  hello.set_address("127.0.0.1:0");
  ExpectRefused(hello, kInvalid, "has no port");
  hello = Hello();
  hello.mutable_device()->set_memory_bytes(0);
  ExpectRefused(hello, kInvalid, "memory_bytes");
  for (const double value :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    hello = Hello();
    hello.mutable_device()->set_memory_bandwidth(value);
    ExpectRefused(hello, kInvalid, "memory_bandwidth");
    hello = Hello();
    hello.mutable_device()->set_int8_macs(value);
    ExpectRefused(hello, kInvalid, "int8_macs");
  }
}

}  // namespace
}  // namespace tandem::coordinator
