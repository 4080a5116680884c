// Whole workers in this process, with a coordinator of the test's.
#include "worker/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "proto/support/protocol_version.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"
#include "tests/worker/fake_coordinator.h"

namespace tandem::worker {
namespace {

using ::tandem::testing::FakeCoordinator;
using ::tandem::testing::kTestDeadline;
using ::testing::HasSubstr;

const std::vector<int32_t> kTokens = {1, 20, 30};

class WorkerTest : public ::testing::Test {
 protected:
  WorkerTest() { coordinator_.SetModel(tandem::testing::MakeTinyModel({}).Serialize()); }
  ~WorkerTest() override { link_.reset(); }

  WorkerConfig Config() {
    WorkerConfig config;
    config.coordinator = coordinator_.address();
    config.threads = 1;
    config.pin_threads = false;
    return config;
  }
  // A worker that has joined; `address` is where its stage is dialled.
  std::unique_ptr<Worker> Join(std::string* address) {
    auto worker = Worker::Start(Config());
    EXPECT_TRUE(worker.ok()) << worker.status();
    *address = coordinator_.ExpectHello().address();
    return *std::move(worker);
  }
  v1::CoordinatorMessage Place(uint64_t epoch, uint32_t stage, uint32_t num_stages, const std::string& next) {
    v1::CoordinatorMessage message;
    v1::Place* place = message.mutable_place();
    place->set_epoch(epoch);
    *place->mutable_model() = coordinator_.model();
    place->set_first_layer(2 * stage / num_stages);
    place->set_end_layer(2 * (stage + 1) / num_stages);
    place->set_stage(stage);
    place->set_num_stages(num_stages);
    place->set_next_address(next);
    place->mutable_kv()->set_type(v1::KV_TYPE_F32);
    place->mutable_kv()->set_page_tokens(16);
    place->mutable_kv()->set_num_pages(4);
    place->set_max_step_tokens(32);
    if (stage + 1 < num_stages) place->set_activation_type(v1::ACTIVATION_TYPE_F32);
    return message;
  }
  // What the coordinator does once all stages are loaded: takes results, and dials the first one.
  void ServeResults(uint64_t epoch) {
    coordinator_.pipeline().Serve(
        epoch,
        [this](std::unique_ptr<v1::StepFrame> frame) {
          absl::MutexLock lock(&mu_);
          result_ = std::move(frame);
        },
        [](absl::Status) {});
  }
  void DialFirst(uint64_t epoch, const std::string& address) {
    links::GrpcLinkOptions options;
    options.address = address;
    options.epoch = epoch;
    options.on_broken = [this](absl::Status why) {
      absl::MutexLock lock(&mu_);
      broken_ = std::move(why);
    };
    auto link = links::DialGrpcLink(options);
    ASSERT_TRUE(link.ok()) << link.status();
    link_ = *std::move(link);
  }
  std::unique_ptr<v1::StepFrame> RunStep(uint64_t epoch, uint64_t step, const std::vector<int32_t>& tokens) {
    auto frame = std::make_unique<v1::StepFrame>();
    frame->set_epoch(epoch);
    frame->set_step(step);
    v1::Slice* slice = frame->add_slices();
    for (const int32_t token : tokens) slice->add_tokens(token);
    slice->add_pages(1);
    slice->set_output(v1::SLICE_OUTPUT_LOGITS);
    EXPECT_TRUE(link_->Send(std::move(frame)).ok());
    absl::MutexLock lock(&mu_);
    const auto there = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return result_ != nullptr; };
    EXPECT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&there), kTestDeadline));
    return std::move(result_);
  }
  static std::vector<float> Logits(const v1::StepFrame& frame) {
    EXPECT_FALSE(frame.has_failure()) << frame.failure().message();
    if (frame.results_size() != 1) return {};
    const std::string& bytes = frame.results(0).logits();
    std::vector<float> logits(bytes.size() / sizeof(float));
    std::memcpy(logits.data(), bytes.data(), bytes.size());
    return logits;
  }
  // What the model answers without any worker.
  static std::vector<float> Expected() {
    const auto tiny = tandem::testing::ParseTinyModel(tandem::testing::TinyModelShape{});
    const auto runner = tandem::testing::StageRunner::Create(*tiny.file, {});
    EXPECT_TRUE(runner.ok()) << runner.status();
    return *(*runner)->Logits(kTokens, 8);
  }
  absl::Status WaitForBreak() {
    absl::MutexLock lock(&mu_);
    const auto there = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return !broken_.ok(); };
    EXPECT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&there), kTestDeadline));
    return broken_;
  }

  FakeCoordinator coordinator_;
  absl::Mutex mu_;
  std::unique_ptr<v1::StepFrame> result_ ABSL_GUARDED_BY(mu_);
  absl::Status broken_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<links::StepLink> link_;
};

TEST_F(WorkerTest, SaysWhatItIsAndCanDo) {
  auto worker = Worker::Start(Config());
  ASSERT_TRUE(worker.ok()) << worker.status();
  const v1::Hello hello = coordinator_.ExpectHello();
  EXPECT_EQ(hello.protocol_version(), proto_support::kProtocolVersion);
  EXPECT_FALSE(hello.name().empty());
  EXPECT_EQ(hello.address(), absl::StrCat("127.0.0.1:", (*worker)->port()));
  EXPECT_EQ(hello.device().threads(), 1u);
  EXPECT_GT(hello.device().memory_bytes(), 0u);
  EXPECT_GT(hello.device().memory_bandwidth(), 0);
  EXPECT_GT(hello.device().int8_macs(), 0);
  (*worker)->Stop();
  EXPECT_TRUE((*worker)->Wait().ok());
}

TEST_F(WorkerTest, TwoWorkersGiveTheBitsOfOne) {
  std::string first_address, second_address;
  const auto first = Join(&first_address);
  const auto second = Join(&second_address);
  ServeResults(8);
  // The first one is placed before the next stage serves the epoch, and waits for it.
  ASSERT_TRUE(coordinator_.Tell(Place(8, 0, 2, second_address), first_address));
  ASSERT_TRUE(coordinator_.Tell(Place(8, 1, 2, coordinator_.address()), second_address));
  for (int i = 0; i < 2; ++i) {
    const v1::LoadDone done = coordinator_.ExpectDone(8);
    EXPECT_EQ(done.code(), 0) << done.message();
    EXPECT_GT(done.weight_bytes(), 0u);
    EXPECT_GT(done.kv_bytes(), 0u);
    EXPECT_GT(done.scratch_bytes(), 0u);
    EXPECT_FALSE(done.from_local_file());
    EXPECT_GT(done.link_round_trip_s(), 0);
    EXPECT_GT(done.link_bytes_per_s(), 0);
  }
  DialFirst(8, first_address);
  const auto result = RunStep(8, 1, kTokens);
  ASSERT_NE(result, nullptr);
  EXPECT_EQ(result->timings_size(), 2);
  EXPECT_EQ(Logits(*result), Expected());
}

TEST_F(WorkerTest, PlaceWithoutAnActivationTypeFails) {
  std::string address;
  const auto worker = Join(&address);
  v1::CoordinatorMessage place = Place(8, 0, 2, coordinator_.address());
  place.mutable_place()->clear_activation_type();
  ASSERT_TRUE(coordinator_.Tell(place));
  const v1::LoadDone done = coordinator_.ExpectDone(8);
  EXPECT_EQ(done.code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(done.message(), HasSubstr("activation_type is 0"));
}

TEST_F(WorkerTest, EachEpochBeginsAnew) {
  std::string address;
  const auto worker = Join(&address);
  for (const uint64_t epoch : {3, 4}) {
    ServeResults(epoch);
    ASSERT_TRUE(coordinator_.Tell(Place(epoch, 0, 1, coordinator_.address())));
    const v1::LoadDone done = coordinator_.ExpectDone(epoch);
    ASSERT_EQ(done.code(), 0) << done.message();
    DialFirst(epoch, address);
    const auto result = RunStep(epoch, 1, kTokens);
    ASSERT_NE(result, nullptr);
    EXPECT_EQ(Logits(*result), Expected());
    link_.reset();
  }
}

TEST_F(WorkerTest, NewerPlacementEndsOneThatWaits) {
  std::string address;
  const auto worker = Join(&address);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, "127.0.0.1:1")));  // nobody is there
  ServeResults(4);
  ASSERT_TRUE(coordinator_.Tell(Place(4, 0, 1, coordinator_.address())));
  const v1::WorkerMessage message = coordinator_.Expect([](const auto& m) { return m.has_done(); });
  EXPECT_EQ(message.done().epoch(), 4u);
  EXPECT_EQ(message.done().code(), 0) << message.done().message();
}

TEST_F(WorkerTest, HeartbeatsTellEpochAndMemory) {
  std::string address;
  const auto worker = Join(&address);
  ServeResults(3);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, coordinator_.address())));
  const v1::LoadDone done = coordinator_.ExpectDone(3);
  const auto serving = coordinator_.Expect([](const auto& m) { return m.heartbeat().epoch() == 3; });
  EXPECT_EQ(serving.heartbeat().memory_used(), done.weight_bytes() + done.kv_bytes() + done.scratch_bytes());
  v1::CoordinatorMessage message;
  message.mutable_unload()->set_epoch(2);  // another epoch: nothing happens
  ASSERT_TRUE(coordinator_.Tell(message));
  message.mutable_unload()->set_epoch(3);
  ASSERT_TRUE(coordinator_.Tell(message));
  coordinator_.Expect([](const auto& m) {
    return m.has_heartbeat() && m.heartbeat().epoch() == 0 && m.heartbeat().memory_used() == 0;
  });
}

TEST_F(WorkerTest, LoadThatFailsIsReported) {
  coordinator_.spoil_tensor = [](v1::TensorChunk& chunk) { return chunk.set_tensor(99), true; };
  std::string address;
  const auto worker = Join(&address);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, coordinator_.address())));
  const v1::LoadDone done = coordinator_.ExpectDone(3);
  EXPECT_EQ(done.code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(done.message(), HasSubstr("token_embd.weight"));
}

TEST_F(WorkerTest, MemoryThatDoesNotFitIsReportedWithTheNumbers) {
  WorkerConfig config = Config();
  config.memory_bytes = 50000;
  const auto worker = Worker::Start(config);
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ(coordinator_.ExpectHello().device().memory_bytes(), 50000u);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, coordinator_.address())));
  const v1::LoadDone done = coordinator_.ExpectDone(3);
  EXPECT_EQ(done.code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(done.message(), HasSubstr("this worker may use 0.1 MB"));
}

TEST_F(WorkerTest, BreakOfTheNextLinkReachesTheOneBefore) {
  std::string address;
  const auto worker = Join(&address);
  ServeResults(3);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, coordinator_.address())));
  ASSERT_EQ(coordinator_.ExpectDone(3).code(), 0);
  DialFirst(3, address);
  coordinator_.pipeline().StopServing();
  EXPECT_EQ(WaitForBreak().code(), absl::StatusCode::kUnavailable);
  coordinator_.Expect([](const auto& m) { return m.has_heartbeat() && m.heartbeat().epoch() == 0; });
}

TEST_F(WorkerTest, LostCoordinatorDropsTheStage) {
  std::string address;
  const auto worker = Join(&address);
  ServeResults(3);
  ASSERT_TRUE(coordinator_.Tell(Place(3, 0, 1, coordinator_.address())));
  ASSERT_EQ(coordinator_.ExpectDone(3).code(), 0);
  coordinator_.EndMemberships();
  coordinator_.ExpectHello();
  coordinator_.Expect([](const auto& m) {
    return m.has_heartbeat() && m.heartbeat().epoch() == 0 && m.heartbeat().memory_used() == 0;
  });
}

TEST_F(WorkerTest, OtherProtocolVersionEndsWaitWithTheReason) {
  coordinator_.join_status = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "protocol version 1, this is 2");
  const auto worker = Worker::Start(Config());
  ASSERT_TRUE(worker.ok()) << worker.status();
  const absl::Status status = (*worker)->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("protocol version 1, this is 2"));
}

TEST_F(WorkerTest, PortInUseReturnsUnavailableNamingIt) {
  WorkerConfig config = Config();
  config.listen = coordinator_.address();
  const absl::Status status = Worker::Start(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(coordinator_.address()));
}

TEST_F(WorkerTest, BadSettingIsRefusedNamingIt) {
  struct Case {
    const char* message;
    absl::StatusCode code;
    std::function<void(WorkerConfig&)> spoil;
  };
  const Case cases[] = {
      {"coordinator: address ''", absl::StatusCode::kInvalidArgument, [](auto& c) { c.coordinator = ""; }},
      {"listen: address 'x'", absl::StatusCode::kInvalidArgument, [](auto& c) { c.listen = "x"; }},
      {"--insecure", absl::StatusCode::kFailedPrecondition, [](auto& c) { c.listen = "0.0.0.0:0"; }},
      {"metrics: will not listen", absl::StatusCode::kFailedPrecondition,
       [](auto& c) { c.metrics_listen = "0.0.0.0:0"; }},
      {"advertise: address", absl::StatusCode::kInvalidArgument, [](auto& c) { c.advertise = "me"; }},
      {"threads is -1", absl::StatusCode::kInvalidArgument, [](auto& c) { c.threads = -1; }},
      {"/no/such/model", absl::StatusCode::kNotFound, [](auto& c) { c.model_paths = {"/no/such/model"}; }},
      {"mmx", absl::StatusCode::kInvalidArgument, [](auto& c) { c.isa = "mmx"; }},
  };
  for (const Case& c : cases) {
    WorkerConfig config = Config();
    c.spoil(config);
    const absl::Status status = Worker::Start(config).status();
    EXPECT_EQ(status.code(), c.code) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace tandem::worker
