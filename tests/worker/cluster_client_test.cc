#include "worker/cluster_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "proto/support/channel.h"
#include "tests/worker/fake_coordinator.h"

namespace tandem::worker {
namespace {

using ::tandem::testing::FakeCoordinator;
using ::tandem::testing::kTestDeadline;
using ::testing::HasSubstr;

// What the client's handlers saw, with waiting.
class Log {
 public:
  ClusterHandlers handlers() {
    ClusterHandlers handlers;
    handlers.heartbeat = [] {
      v1::Heartbeat heartbeat;
      heartbeat.set_epoch(5);
      heartbeat.set_memory_used(77);
      return heartbeat;
    };
    handlers.on_welcome = [this](const v1::Welcome& welcome) { Add("welcome " + welcome.name()); };
    handlers.on_place = [this](const v1::Place& place) { Add(absl::StrCat("place ", place.epoch())); };
    handlers.on_unload = [this](const v1::Unload& unload) { Add(absl::StrCat("unload ", unload.epoch())); };
    handlers.on_send_as = [this](const v1::SendAs& send_as) { Add(absl::StrCat("send as ", send_as.epoch())); };
    handlers.on_lost = [this](const absl::Status&) { Add("lost"); };
    handlers.on_refused = [this](const absl::Status& why) { Add("refused: " + why.ToString()); };
    return handlers;
  }
  // The next entry; "" after the deadline.
  std::string Next() {
    absl::MutexLock lock(&mu_);
    const auto there = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return next_ < entries_.size(); };
    return mu_.AwaitWithTimeout(absl::Condition(&there), kTestDeadline) ? entries_[next_++] : "";
  }
  bool AnyLeft() {
    absl::MutexLock lock(&mu_);
    return next_ < entries_.size();
  }

 private:
  void Add(std::string entry) {
    absl::MutexLock lock(&mu_);
    entries_.push_back(std::move(entry));
  }
  absl::Mutex mu_;
  std::vector<std::string> entries_ ABSL_GUARDED_BY(mu_);
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;
};

class ClusterClientTest : public ::testing::Test {
 protected:
  std::unique_ptr<ClusterClient> Join(const std::string& address) {
    ClusterClientOptions options;
    options.coordinator = address;
    options.hello.set_protocol_version(1);
    options.hello.set_name("desk");
    options.min_backoff = absl::Milliseconds(5);
    options.max_backoff = absl::Milliseconds(50);
    stub_ = v1::Cluster::NewStub(proto_support::MakeChannel(address));
    auto client = std::make_unique<ClusterClient>(std::move(options), *stub_, log_.handlers());
    client->Start();
    return client;
  }
  static v1::CoordinatorMessage PlaceMessage(uint64_t epoch) {
    v1::CoordinatorMessage message;
    message.mutable_place()->set_epoch(epoch);
    return message;
  }

  Log log_;
  std::unique_ptr<v1::Cluster::Stub> stub_;
};

TEST_F(ClusterClientTest, JoinsSaysHelloAndKeepsTheLeaseAlive) {
  FakeCoordinator coordinator;
  const auto client = Join(coordinator.address());
  EXPECT_EQ(coordinator.ExpectHello().name(), "desk");
  EXPECT_EQ(log_.Next(), "welcome desk");
  for (int i = 0; i < 3; ++i) {
    const v1::WorkerMessage message = coordinator.Expect([](const auto& m) { return m.has_heartbeat(); });
    EXPECT_EQ(message.heartbeat().epoch(), 5u);
    EXPECT_EQ(message.heartbeat().memory_used(), 77u);
  }
}

TEST_F(ClusterClientTest, PassesPlaceAndUnloadOn) {
  FakeCoordinator coordinator;
  const auto client = Join(coordinator.address());
  ASSERT_EQ(log_.Next(), "welcome desk");
  ASSERT_TRUE(coordinator.Tell(PlaceMessage(8)));
  EXPECT_EQ(log_.Next(), "place 8");
  v1::CoordinatorMessage message;
  message.mutable_unload()->set_epoch(8);
  ASSERT_TRUE(coordinator.Tell(message));
  EXPECT_EQ(log_.Next(), "unload 8");
}

TEST_F(ClusterClientTest, SendReachesTheCoordinator) {
  FakeCoordinator coordinator;
  const auto client = Join(coordinator.address());
  ASSERT_EQ(log_.Next(), "welcome desk");
  v1::WorkerMessage message;
  message.mutable_done()->set_epoch(9);
  message.mutable_done()->set_message("done");
  client->Send(message);
  EXPECT_EQ(coordinator.ExpectDone(9).message(), "done");
}

TEST_F(ClusterClientTest, JoinsAgainWhenTheMembershipEnds) {
  FakeCoordinator coordinator;
  const auto client = Join(coordinator.address());
  ASSERT_EQ(log_.Next(), "welcome desk");
  coordinator.EndMemberships();
  EXPECT_EQ(log_.Next(), "lost");
  EXPECT_EQ(log_.Next(), "welcome desk");
}

TEST_F(ClusterClientTest, JoinsACoordinatorThatComesBack) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const int port = coordinator->port();
  const auto client = Join(coordinator->address());
  ASSERT_EQ(log_.Next(), "welcome desk");
  coordinator = nullptr;
  EXPECT_EQ(log_.Next(), "lost");
  client->Send({});  // nobody is there: dropped
  coordinator = std::make_unique<FakeCoordinator>(port);
  EXPECT_EQ(log_.Next(), "welcome desk");
}

TEST_F(ClusterClientTest, OtherProtocolVersionEndsItForGood) {
  FakeCoordinator coordinator;
  coordinator.join_status = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "protocol version 1, this is 2");
  const auto client = Join(coordinator.address());
  const std::string entry = log_.Next();
  EXPECT_THAT(entry, HasSubstr("refused: FAILED_PRECONDITION"));
  EXPECT_THAT(entry, HasSubstr("protocol version 1, this is 2"));
  EXPECT_THAT(entry, HasSubstr(coordinator.address()));
  client->Stop();
  EXPECT_FALSE(log_.AnyLeft());
}

TEST_F(ClusterClientTest, ServerThatIsNoCoordinatorEndsItForGood) {
  auto pipeline = links::MakePipelineService();
  grpc::ServerBuilder builder;
  proto_support::ConfigureServer(builder);
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(pipeline->service());
  const auto server = builder.BuildAndStart();
  const auto client = Join(absl::StrCat("127.0.0.1:", port));
  EXPECT_THAT(log_.Next(), HasSubstr("refused: UNIMPLEMENTED"));
  client->Stop();
  server->Shutdown();
  server->Wait();
}

TEST_F(ClusterClientTest, StopEndsTheMembershipAndMayBeRepeated) {
  FakeCoordinator coordinator;
  const auto client = Join(coordinator.address());
  ASSERT_EQ(log_.Next(), "welcome desk");
  client->Stop();
  client->Stop();
  EXPECT_FALSE(log_.AnyLeft());
}

TEST_F(ClusterClientTest, StopWhileTheCoordinatorIsAwayDoesNotWait) {
  const auto client = Join("127.0.0.1:1");
  client->Stop();
  EXPECT_FALSE(log_.AnyLeft());
}

}  // namespace
}  // namespace tandem::worker
