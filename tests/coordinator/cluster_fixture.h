// A cluster whose workers and pipeline ends are recorded, and what its tests share.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <future>
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/cluster.h"
#include "coordinator/cluster_manager.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/support/protocol_version.h"
#include "tests/support/tiny_model.h"

namespace tandem::coordinator {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What a worker was told.
class FakeSession : public MemberSession {
 public:
  void Send(v1::CoordinatorMessage message) override { messages.push_back(std::move(message)); }
  void End(absl::Status status) override {
    ended = true;
    end = std::move(status);
  }
  // The last message, which must be a Place.
  v1::Place place() const {
    EXPECT_TRUE(!messages.empty() && messages.back().has_place());
    return messages.empty() ? v1::Place() : messages.back().place();
  }

  std::vector<v1::CoordinatorMessage> messages;
  bool ended = false;
  absl::Status end;
};

class FakeEnds : public PipelineEnds {
 public:
  void Serve(uint64_t epoch) override { served.push_back(epoch); }
  absl::Status Attach(const PipelineSpec& spec, const std::string& first_address) override {
    attached.push_back(spec);
    address = first_address;
    return attach_result;
  }
  void Detach(uint64_t epoch, const absl::Status& why) override {
    detached_epochs.push_back(epoch);
    detached.push_back(std::string(why.message()));
  }
  void Explain(const std::string& why) override { explained = why; }

  std::vector<uint64_t> served, detached_epochs;
  std::vector<PipelineSpec> attached;
  std::vector<std::string> detached;
  std::string address, explained;
  absl::Status attach_result;
};

class ClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tandem::testing::TinyModelShape shape;
    shape.layers = 6;
    const std::string path = absl::StrCat(::testing::TempDir(), "/cluster_test_", getpid(), ".gguf");
    ASSERT_TRUE(tandem::testing::MakeTinyModel(shape).Write(path).ok());
    auto model = ServedModel::Open(path);
    std::remove(path.c_str());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = model->release();
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }

  // `drafted`: with a draft model, and one pipeline at most.
  void Start(int32_t min_workers, ActivationChoice activations = engine::TensorType::kF32, bool drafted = false) {
    ClusterOptions options;
    DraftPlacing draft;
    if (drafted) draft = {.model = model_, .ends = &draft_ends_};
    options.plan.max_pipelines = drafted ? 1 : 0;
    options.plan.activations = activations;
    options.min_workers = min_workers;
    options.first_epoch = 100;
    cluster_ = std::make_unique<Cluster>(*model_, options, ends_, draft);
    cluster_->set_address("10.0.0.1:7070");
  }

  static v1::Hello Hello(const std::string& name, double speed, uint64_t memory_bytes) {
    v1::Hello hello;
    hello.set_protocol_version(proto_support::kProtocolVersion);
    hello.set_name(name);
    hello.set_address(absl::StrCat("10.0.0.2:900", name.size()));
    hello.mutable_device()->set_threads(2);
    hello.mutable_device()->set_memory_bytes(memory_bytes);
    // So slow that the wire does not count.
    hello.mutable_device()->set_memory_bandwidth(speed * 1e5);
    hello.mutable_device()->set_int8_macs(speed * 1e6);
    return hello;
  }

  std::shared_ptr<FakeSession> Join(uint64_t id, const std::string& name, double speed = 1,
                                    uint64_t memory_bytes = 1 << 30) {
    auto session = std::make_shared<FakeSession>();
    cluster_->Join(id, Hello(name, speed, memory_bytes), session, now_);
    ids_.push_back(id);
    return session;
  }
  // Lets time pass; members say that they are alive.
  void Pass(milliseconds time) {
    now_ += time;
    v1::WorkerMessage heartbeat;
    heartbeat.mutable_heartbeat()->set_memory_used(5);
    for (uint64_t id : ids_) cluster_->OnMessage(id, heartbeat, now_, now_);
    cluster_->Tick(now_);
  }
  void Loaded(uint64_t id, uint64_t epoch, int code = 0, LinkCost link = {.latency_s = 0, .bytes_per_s = 0}) {
    v1::WorkerMessage message;
    message.mutable_done()->set_epoch(epoch);
    message.mutable_done()->set_code(code);
    message.mutable_done()->set_message(code == 0 ? "" : "disk full");
    message.mutable_done()->set_weight_bytes(12345);
    message.mutable_done()->set_from_local_file(true);
    message.mutable_done()->set_link_round_trip_s(2 * link.latency_s);
    message.mutable_done()->set_link_bytes_per_s(link.bytes_per_s);
    cluster_->OnMessage(id, message, now_, now_);
  }
  v1::Phase phase() const { return cluster_->State().phase(); }
  std::string detail() const { return cluster_->State().detail(); }

  // Two equal workers that serve.
  void Serve2() {
    Start(2);
    left_ = Join(1, "left");
    right_ = Join(2, "right");
    Pass(milliseconds(300));
    Loaded(1, 100);
    Loaded(2, 100);
    ASSERT_EQ(phase(), v1::PHASE_SERVING);
  }

  // Two workers so fast that a hop between them would take longer than the model: each serves alone.
  static constexpr double kFast = 1e6;
  void ServeInTwoPipelines() {
    Start(1);
    left_ = Join(1, "left", kFast);
    right_ = Join(2, "right", kFast);
    Pass(milliseconds(300));
    ASSERT_THAT(ends_.served, ElementsAre(100, 101));
    Loaded(1, 100);
    ASSERT_EQ(phase(), v1::PHASE_SERVING);
    ASSERT_EQ(cluster_->State().pipelines(1).phase(), v1::PHASE_LOADING);
    Loaded(2, 101);
    ASSERT_EQ(cluster_->State().pipelines(1).phase(), v1::PHASE_SERVING);
  }

  inline static const ServedModel* model_ = nullptr;
  FakeEnds ends_, draft_ends_;
  std::unique_ptr<Cluster> cluster_;
  std::shared_ptr<FakeSession> left_, right_;
  std::vector<uint64_t> ids_;
  Time now_;
};

}  // namespace tandem::coordinator
