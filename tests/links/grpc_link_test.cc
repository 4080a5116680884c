// Both halves of the gRPC link over loopback.
#include "links/grpc_link.h"

#include "links/link_probe.h"

#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "proto/support/channel.h"
#include "tandem/v1/pipeline.grpc.pb.h"

namespace tandem::links {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kDeadline = absl::Seconds(20);

// What arrived, with waiting.
class Inbox {
 public:
  FrameHandler handler() {
    return [this](std::unique_ptr<v1::StepFrame> frame) {
      absl::MutexLock lock(&mu_);
      frames_.push_back(std::move(frame));
    };
  }
  std::function<void(absl::Status)> on_broken() {
    return [this](absl::Status status) {
      absl::MutexLock lock(&mu_);
      broken_.push_back(std::move(status));
    };
  }
  bool WaitForFrames(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto there = [&] { return frames_.size() >= count; };
    return mu_.AwaitWithTimeout(absl::Condition(&there), kDeadline);
  }
  bool WaitForBroken() {
    absl::MutexLock lock(&mu_);
    const auto there = [&] { return !broken_.empty(); };
    return mu_.AwaitWithTimeout(absl::Condition(&there), kDeadline);
  }
  std::vector<absl::Status> broken() {
    absl::MutexLock lock(&mu_);
    return broken_;
  }
  const v1::StepFrame& frame(size_t i) {
    absl::MutexLock lock(&mu_);
    return *frames_.at(i);
  }
  size_t size() {
    absl::MutexLock lock(&mu_);
    return frames_.size();
  }

 private:
  absl::Mutex mu_;
  std::vector<std::unique_ptr<v1::StepFrame>> frames_;
  std::vector<absl::Status> broken_;
};

std::unique_ptr<v1::StepFrame> MakeFrame(uint64_t epoch, uint64_t step) {
  auto frame = std::make_unique<v1::StepFrame>();
  frame->set_epoch(epoch);
  frame->set_step(step);
  return frame;
}

class GrpcLinkTest : public testing::Test {
 protected:
  GrpcLinkTest() : service_(MakePipelineService()) { server_ = StartServer(service_->service(), &port_); }
  ~GrpcLinkTest() override {
    service_->StopServing();
    server_->Shutdown();
    server_->Wait();
  }

  static std::unique_ptr<grpc::Server> StartServer(grpc::Service* service, int* port) {
    proto_support::PrepareGrpc();
    grpc::ServerBuilder builder;
    proto_support::ConfigureServer(builder);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), port);
    builder.RegisterService(service);
    return builder.BuildAndStart();
  }

  GrpcLinkOptions Options(uint64_t epoch) {
    GrpcLinkOptions options;
    options.address = absl::StrCat("127.0.0.1:", port_);
    options.epoch = epoch;
    options.on_broken = sender_.on_broken();
    return options;
  }

  std::unique_ptr<PipelineService> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  Inbox sender_, receiver_;
};

TEST_F(GrpcLinkTest, ThousandFramesArriveInOrder) {
  service_->Serve(7, receiver_.handler(), receiver_.on_broken());
  absl::Mutex mu;
  int acks = 0;
  GrpcLinkOptions options = Options(7);
  options.on_ack = [&](double wire_s) {
    EXPECT_GE(wire_s, 0);
    absl::MutexLock lock(&mu);
    ++acks;
  };
  auto link = DialGrpcLink(options);
  ASSERT_TRUE(link.ok()) << link.status();
  for (uint64_t step = 1; step <= 1000;) {
    absl::MutexLock lock(&mu);
    const int before = acks;
    const absl::Status sent = (*link)->Send(MakeFrame(7, step));
    if (sent.ok()) {
      ++step;
      continue;
    }
    ASSERT_EQ(sent.code(), absl::StatusCode::kResourceExhausted) << sent;
    const auto more = [&] { return acks > before; };
    ASSERT_TRUE(mu.AwaitWithTimeout(absl::Condition(&more), kDeadline));
  }
  ASSERT_TRUE(receiver_.WaitForFrames(1000));
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(receiver_.frame(i).step(), i + 1);
  EXPECT_EQ((*link)->stats().frames, 1000u);
  {
    absl::MutexLock lock(&mu);
    // All but what may wait for the next acknowledgement.
    const auto nearly_all = [&] { return (*link)->stats().acknowledged > 1000 - 16; };
    EXPECT_TRUE(mu.AwaitWithTimeout(absl::Condition(&nearly_all), kDeadline));
    EXPECT_LT(acks, 1000);
  }
  EXPECT_GT((*link)->stats().last_wire_s, 0);
  (*link)->Close();
  EXPECT_TRUE(sender_.broken().empty());
}

TEST_F(GrpcLinkTest, FourMebibytePayloadArrivesIntact) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  std::string payload(4 << 20, '\0');
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 2654435761u >> 24);
  auto frame = MakeFrame(1, 1);
  frame->set_activations(payload);
  ASSERT_TRUE((*link)->Send(std::move(frame)).ok());
  ASSERT_TRUE(receiver_.WaitForFrames(1));
  EXPECT_TRUE(receiver_.frame(0).activations() == payload);
  EXPECT_GT((*link)->stats().bytes, payload.size());
}

TEST_F(GrpcLinkTest, DialOfAnotherEpochReturnsFailedPrecondition) {
  service_->Serve(2, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  EXPECT_EQ(link.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(link.status().message(), HasSubstr("epoch 1 is not served: epoch 2 is"));
  EXPECT_THAT(link.status().message(), HasSubstr(absl::StrCat(port_)));
  EXPECT_TRUE(sender_.broken().empty());
}

TEST_F(GrpcLinkTest, DialBeforeServeReturnsFailedPrecondition) {
  auto link = DialGrpcLink(Options(1));
  EXPECT_EQ(link.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GrpcLinkTest, SecondStreamOfAnEpochReturnsAlreadyExists) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto first = DialGrpcLink(Options(1));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(DialGrpcLink(Options(1)).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(GrpcLinkTest, DialWithoutListenerReturnsUnavailableNamingTheAddress) {
  GrpcLinkOptions options = Options(1);
  options.address = "127.0.0.1:1";
  options.connect_timeout_ms = 200;
  auto link = DialGrpcLink(options);
  EXPECT_EQ(link.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(link.status().message(), HasSubstr("127.0.0.1:1"));
  EXPECT_TRUE(sender_.broken().empty());
}

TEST_F(GrpcLinkTest, StopServingBreaksTheLinkOnce) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  service_->StopServing();
  ASSERT_TRUE(sender_.WaitForBroken());
  (*link)->Close();
  EXPECT_EQ(sender_.broken().size(), 1u);
  EXPECT_EQ((*link)->Send(MakeFrame(1, 1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(receiver_.broken().empty());
}

TEST_F(GrpcLinkTest, ServerGoneBreaksTheLinkOnce) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  server_->Shutdown(std::chrono::system_clock::now());  // connections are cut
  ASSERT_TRUE(sender_.WaitForBroken());
  (*link)->Close();
  EXPECT_EQ(sender_.broken().size(), 1u);
}

TEST_F(GrpcLinkTest, ClosedLinkIsReportedToTheServingSideOnce) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  (*link)->Close();
  (*link)->Close();
  EXPECT_EQ((*link)->Send(MakeFrame(1, 1)).code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(receiver_.WaitForBroken());
  service_->StopServing();
  EXPECT_EQ(receiver_.broken().size(), 1u);
  EXPECT_TRUE(sender_.broken().empty());
}

TEST_F(GrpcLinkTest, EpochsAreServedBesideEachOther) {
  Inbox other;
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  service_->Serve(2, other.handler(), other.on_broken());
  auto first = DialGrpcLink(Options(1));
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = DialGrpcLink(Options(2));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE((*first)->Send(MakeFrame(1, 1)).ok());
  ASSERT_TRUE((*second)->Send(MakeFrame(2, 1)).ok());
  ASSERT_TRUE(receiver_.WaitForFrames(1));
  ASSERT_TRUE(other.WaitForFrames(1));
  EXPECT_EQ(receiver_.frame(0).epoch(), 1u);
  EXPECT_EQ(other.frame(0).epoch(), 2u);

  service_->StopServing(1);
  ASSERT_TRUE(sender_.WaitForBroken());
  EXPECT_THAT(DialGrpcLink(Options(1)).status().message(), HasSubstr("epoch 1 is not served: epoch 2 is"));
  ASSERT_TRUE((*second)->Send(MakeFrame(2, 2)).ok());
  ASSERT_TRUE(other.WaitForFrames(2));
  EXPECT_TRUE(other.broken().empty());
  service_->StopServing();
}

TEST_F(GrpcLinkTest, ServingAnEpochAgainEndsItsStream) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto first = DialGrpcLink(Options(1));
  ASSERT_TRUE(first.ok()) << first.status();
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  ASSERT_TRUE(sender_.WaitForBroken());
  auto second = DialGrpcLink(Options(1));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE((*second)->Send(MakeFrame(1, 1)).ok());
  ASSERT_TRUE(receiver_.WaitForFrames(1));
}

TEST_F(GrpcLinkTest, FrameOfAnotherEpochEndsTheStream) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE((*link)->Send(MakeFrame(9, 1)).ok());
  ASSERT_TRUE(sender_.WaitForBroken());
  EXPECT_EQ(sender_.broken()[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(sender_.broken()[0].message(), HasSubstr("epoch 9"));
  ASSERT_TRUE(receiver_.WaitForBroken());
  EXPECT_EQ(receiver_.size(), 0u);
}

TEST_F(GrpcLinkTest, StepOutOfOrderEndsTheStream) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE((*link)->Send(MakeFrame(1, 1)).ok());
  ASSERT_TRUE((*link)->Send(MakeFrame(1, 3)).ok());
  ASSERT_TRUE(sender_.WaitForBroken());
  EXPECT_EQ(sender_.broken()[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(sender_.broken()[0].message(), HasSubstr("step 3 came after step 1"));
  EXPECT_EQ(receiver_.size(), 1u);
}

TEST_F(GrpcLinkTest, CloseWhileAnotherThreadSendsIsSafe) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto link = DialGrpcLink(Options(1));
  ASSERT_TRUE(link.ok()) << link.status();
  absl::Notification started;
  std::thread sender([&] {
    absl::Status status;
    for (uint64_t step = 1; status.ok() || status.code() == absl::StatusCode::kResourceExhausted;) {
      auto frame = MakeFrame(1, step);
      frame->set_activations(std::string(100000, 'x'));
      status = (*link)->Send(std::move(frame));
      if (status.ok()) ++step;
      if (step == 10 && !started.HasBeenNotified()) started.Notify();
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  });
  started.WaitForNotification();
  (*link)->Close();
  sender.join();
  EXPECT_TRUE(sender_.broken().empty());
}

// Accepts the stream, then reads nothing until it is cancelled.
class StalledPipeline : public v1::Pipeline::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck>* Steps(grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck> {
     public:
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }
    };
    auto* reactor = new Reactor;
    context->AddInitialMetadata("tandem-epoch", "1");
    reactor->StartSendInitialMetadata();
    return reactor;
  }
};

TEST_F(GrpcLinkTest, PeerThatTakesNothingGivesResourceExhausted) {
  StalledPipeline stalled;
  int port = 0;
  auto server = StartServer(&stalled, &port);
  GrpcLinkOptions options = Options(1);
  options.address = absl::StrCat("127.0.0.1:", port);
  auto link = DialGrpcLink(options);
  ASSERT_TRUE(link.ok()) << link.status();
  constexpr uint64_t kMost = kMaxUnacknowledged + kAckFrames;
  for (uint64_t step = 1; step <= kMost; ++step) {
    auto frame = MakeFrame(1, step);
    frame->set_activations(std::string(100000, 'x'));
    ASSERT_TRUE((*link)->Send(std::move(frame)).ok());
  }
  EXPECT_EQ((*link)->Send(MakeFrame(1, kMost + 1)).code(), absl::StatusCode::kResourceExhausted);
  (*link)->Close();
  server->Shutdown();
  server->Wait();
}

v1::StepFrame FullFrame(uint64_t step, size_t activation_bytes) {
  v1::StepFrame frame = *MakeFrame(1, step);
  frame.add_slices()->add_tokens(7);
  frame.set_activations(std::string(activation_bytes, static_cast<char>('a' + step)));
  frame.set_activation_type(v1::ACTIVATION_TYPE_F32);
  frame.add_timings()->set_compute_us(9);
  return frame;
}
// Below and above what a slice, a buffer and a frame of HTTP/2 hold.
constexpr size_t kPayloads[] = {0, 100, 5000, 16384, 300000};

// As the generated classes read and write it.
class PlainPipeline : public v1::Pipeline::Service {
 public:
  grpc::Status Steps(grpc::ServerContext* context,
                     grpc::ServerReaderWriter<v1::StepAck, v1::StepFrame>* stream) override {
    context->AddInitialMetadata("tandem-epoch", "1");
    stream->SendInitialMetadata();
    auto frame = std::make_unique<v1::StepFrame>();
    while (stream->Read(frame.get())) {
      v1::StepAck ack;
      ack.set_step(frame->step());
      inbox.handler()(std::move(frame));
      stream->Write(ack);
      frame = std::make_unique<v1::StepFrame>();
    }
    return grpc::Status::OK;
  }
  Inbox inbox;
};

TEST_F(GrpcLinkTest, PlainProtobufPeerReadsOurFrames) {
  PlainPipeline plain;
  int port = 0;
  auto server = StartServer(&plain, &port);
  GrpcLinkOptions options = Options(1);
  options.address = absl::StrCat("127.0.0.1:", port);
  auto link = DialGrpcLink(options);
  ASSERT_TRUE(link.ok()) << link.status();
  uint64_t step = 0;
  for (const size_t bytes : kPayloads) {
    ++step;
    ASSERT_TRUE((*link)->Send(std::make_unique<v1::StepFrame>(FullFrame(step, bytes))).ok());
  }
  ASSERT_TRUE(plain.inbox.WaitForFrames(std::size(kPayloads)));
  for (uint64_t i = 0; i < step; ++i) {
    EXPECT_EQ(plain.inbox.frame(i).SerializeAsString(), FullFrame(i + 1, kPayloads[i]).SerializeAsString());
  }
  link->reset();
  server->Shutdown();
  server->Wait();
}

TEST_F(GrpcLinkTest, FramesOfAPlainProtobufPeerAreRead) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto stub = v1::Pipeline::NewStub(proto_support::MakeChannel(absl::StrCat("127.0.0.1:", port_)));
  grpc::ClientContext context;
  context.AddMetadata("tandem-epoch", "1");
  auto stream = stub->Steps(&context);
  uint64_t step = 0;
  for (const size_t bytes : kPayloads) {
    ++step;
    ASSERT_TRUE(stream->Write(FullFrame(step, bytes)));
  }
  v1::StepAck ack;
  ASSERT_TRUE(stream->Read(&ack));
  EXPECT_EQ(ack.step(), 1u) << "the first one at once";
  ASSERT_TRUE(receiver_.WaitForFrames(step));
  for (uint64_t i = 0; i < step; ++i) {
    EXPECT_EQ(receiver_.frame(i).SerializeAsString(), FullFrame(i + 1, kPayloads[i]).SerializeAsString());
  }
}

TEST_F(GrpcLinkTest, OfSixteenFramesOneIsAcknowledged) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto stub = v1::Pipeline::NewStub(proto_support::MakeChannel(absl::StrCat("127.0.0.1:", port_)));
  grpc::ClientContext context;
  context.AddMetadata("tandem-epoch", "1");
  auto stream = stub->Steps(&context);
  for (uint64_t step = 1; step <= 32; ++step) ASSERT_TRUE(stream->Write(FullFrame(step, 100)));
  v1::StepAck ack;
  for (uint64_t last = 0; ack.step() <= 16; last = ack.step()) {
    ASSERT_TRUE(stream->Read(&ack));
    EXPECT_GT(ack.step(), last);
    EXPECT_LE(ack.step(), last + 16);
  }
}

TEST_F(GrpcLinkTest, WhatIsNoFrameEndsTheStream) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  grpc::TemplatedGenericStub<v1::ProbeRequest, v1::StepAck> stub(
      proto_support::MakeChannel(absl::StrCat("127.0.0.1:", port_)));
  grpc::ClientContext context;
  context.AddMetadata("tandem-epoch", "1");
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return ok;
  };
  auto stream = stub.PrepareCall(&context, "/tandem.v1.Pipeline/Steps", &queue);
  stream->StartCall(nullptr);
  ASSERT_TRUE(next());
  v1::ProbeRequest other;  // bytes where the epoch should be
  other.set_payload("x");
  stream->Write(other, nullptr);
  next();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  next();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  EXPECT_FALSE(queue.Next(&tag, &ok));
  ASSERT_TRUE(receiver_.WaitForBroken());
  EXPECT_EQ(receiver_.size(), 0u);
}

// Acknowledges a step that was never sent.
class LyingPipeline : public v1::Pipeline::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck>* Steps(grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<v1::StepFrame, v1::StepAck> {
     public:
      Reactor() {
        ack_.set_step(77);
        StartWrite(&ack_);
      }
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }

     private:
      v1::StepAck ack_;
    };
    context->AddInitialMetadata("tandem-epoch", "1");
    return new Reactor;
  }
};

TEST_F(GrpcLinkTest, FalseAcknowledgementBreaksTheLink) {
  LyingPipeline lying;
  int port = 0;
  auto server = StartServer(&lying, &port);
  GrpcLinkOptions options = Options(1);
  options.address = absl::StrCat("127.0.0.1:", port);
  auto link = DialGrpcLink(options);
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(sender_.WaitForBroken());
  EXPECT_THAT(sender_.broken()[0].message(), HasSubstr("step 77"));
  link->reset();
  server->Shutdown();
  server->Wait();
}

TEST_F(GrpcLinkTest, HopIsMeasured) {
  const auto speed = MeasureLink(absl::StrCat("127.0.0.1:", port_), absl::Seconds(20));
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_GT(speed->round_trip_s, 0);
  EXPECT_GT(speed->bytes_per_s, 0);
}

TEST_F(GrpcLinkTest, HopToNobodyIsNotMeasured) {
  EXPECT_EQ(MeasureLink("127.0.0.1:1", absl::Milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(GrpcLinkTest, StreamWithoutEpochIsRefused) {
  service_->Serve(1, receiver_.handler(), receiver_.on_broken());
  auto stub = v1::Pipeline::NewStub(proto_support::MakeChannel(absl::StrCat("127.0.0.1:", port_)));
  for (const char* epoch : {"", "x", "-1", "18446744073709551616"}) {
    grpc::ClientContext context;
    if (*epoch != '\0') context.AddMetadata("tandem-epoch", epoch);
    auto stream = stub->Steps(&context);
    v1::StepAck ack;
    EXPECT_FALSE(stream->Read(&ack));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << epoch;
  }
}

}  // namespace
}  // namespace tandem::links
