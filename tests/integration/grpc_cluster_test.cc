// Coordinator and workers in one process, joined by real gRPC on loopback: what clients and peers see of the services.
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "cli/local_cluster.h"
#include "coordinator/server.h"
#include "engine/base/interrupt.h"
#include "proto/support/channel.h"
#include "proto/support/protocol_version.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "tandem/v1/generate.grpc.pb.h"
#include "tests/integration/answers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_adapter.h"
#include "tests/support/tiny_model.h"
#include "worker/worker.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::seconds kDeadline{60};

class GrpcClusterTest : public ::testing::Test {
 protected:
  void StartCoordinator(int min_workers) {
    coordinator::CoordinatorConfig config;
    config.model_path = WriteTinyModel();
    config.listen = "127.0.0.1:0";
    config.min_workers = min_workers;
    config.adapters = adapters_;
    auto started = coordinator::Coordinator::Start(config);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    server_ = absl::StrCat("127.0.0.1:", coordinator_->port());
    stub_ = v1::Tandem::NewStub(proto_support::MakeChannel(server_));
  }

  void AddWorker(uint64_t memory_bytes = 0) {
    worker::WorkerConfig config;
    config.coordinator = server_;
    config.name = absl::StrCat("worker-", workers_.size());
    config.threads = 1;
    config.pin_threads = false;
    config.memory_bytes = memory_bytes;
    auto started = worker::Worker::Start(config);
    ASSERT_TRUE(started.ok()) << started.status();
    workers_.push_back(*std::move(started));
  }

  void StartCluster(int workers) {
    StartCoordinator(workers);
    for (int i = 0; i < workers; ++i) AddWorker();
    WaitUntilServing();
  }

  void WaitUntilServing() {
    ASSERT_EQ(WaitForState([](const v1::ClusterState& s) { return s.phase() == v1::PHASE_SERVING; }).phase(),
              v1::PHASE_SERVING);
  }

  Answer Ask(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    Answer answer;
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      answer.ids.insert(answer.ids.end(), response.ids().begin(), response.ids().end());
      answer.text += response.text();
      answer.last = response;
    }
    const grpc::Status status = reader->Finish();
    answer.status = absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
    return answer;
  }

  void ExpectRefused(const v1::GenerateRequest& request, absl::StatusCode code, const std::string& text) {
    const Answer answer = Ask(request);
    EXPECT_EQ(answer.status.code(), code) << answer.status;
    EXPECT_THAT(std::string(answer.status.message()), HasSubstr(text));
    EXPECT_TRUE(answer.ids.empty());
  }

  // Until the cluster's state satisfies `condition`; the last state is returned.
  v1::ClusterState WaitForState(const std::function<bool(const v1::ClusterState&)>& condition) {
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    v1::ClusterState state = coordinator_->state();
    while (!condition(state) && std::chrono::steady_clock::now() < end) {
      std::this_thread::yield();
      state = coordinator_->state();
    }
    return state;
  }

  void TearDown() override {
    for (auto& worker : workers_) worker->Stop();
    if (coordinator_) coordinator_->Stop();
  }

  std::vector<std::string> adapters_;  // NAME=FILE, for StartCoordinator
  std::unique_ptr<coordinator::Coordinator> coordinator_;
  std::vector<std::unique_ptr<worker::Worker>> workers_;
  std::string server_;
  std::unique_ptr<v1::Tandem::Stub> stub_;
};

// A call by name with hand-encoded bytes, as a client without our .proto files would make it.
class RawCall {
 public:
  RawCall(const std::string& server, const std::string& method, const std::string& request) {
    grpc::GenericStub stub(grpc::CreateChannel(server, grpc::InsecureChannelCredentials()));
    context_.set_deadline(std::chrono::system_clock::now() + kDeadline);
    grpc::CompletionQueue queue;
    auto stream = stub.PrepareCall(&context_, method, &queue);
    grpc::Slice slice(request);
    grpc::ByteBuffer sent(&slice, 1), received;
    grpc::Status status;
    stream->StartCall(Tag(1));
    Next(&queue);
    stream->WriteLast(sent, grpc::WriteOptions(), Tag(2));
    Next(&queue);
    stream->Read(&received, Tag(3));
    if (Next(&queue)) {
      std::vector<grpc::Slice> slices;
      received.Dump(&slices);
      for (const grpc::Slice& part : slices) response_.append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
    stream->Finish(&status, Tag(4));
    Next(&queue);
    queue.Shutdown();
    void* tag;
    bool ok;
    while (queue.Next(&tag, &ok)) {
    }
  }
  const std::string& response() const { return response_; }

 private:
  static void* Tag(intptr_t value) { return reinterpret_cast<void*>(value); }
  static bool Next(grpc::CompletionQueue* queue) {
    void* tag;
    bool ok = false;
    return queue->Next(&tag, &ok) && ok;
  }
  grpc::ClientContext context_;
  std::string response_;
};

TEST_F(GrpcClusterTest, AnswersEqualThoseOfAnEmbeddedCluster) {
  StartCluster(2);
  auto local = TinyCluster(1);
  ASSERT_NE(local, nullptr);
  for (const v1::GenerateRequest& request : EightRequests()) {
    const Answer answer = Ask(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.ids, testing::Ask(*local, request).ids);
  }
  const v1::ClusterState state = coordinator_->state();
  EXPECT_EQ(state.phase(), v1::PHASE_SERVING);
  ASSERT_EQ(state.pipelines(0).stages_size(), 2);
  EXPECT_EQ(state.pipelines(0).stages(0).first_layer(), 0u);
  EXPECT_EQ(state.pipelines(0).stages(0).end_layer(), state.pipelines(0).stages(1).first_layer());
  EXPECT_EQ(state.pipelines(0).stages(1).end_layer(), 4u);
}

TEST_F(GrpcClusterTest, EightClientsAtOnceGetWhatEachGetsAlone) {
  StartCluster(3);
  const std::vector<v1::GenerateRequest> requests = EightRequests();
  std::vector<Answer> alone, together(requests.size());
  for (const v1::GenerateRequest& request : requests) alone.push_back(Ask(request));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) clients.emplace_back([&, i] { together[i] = Ask(requests[i]); });
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status;
    EXPECT_EQ(together[i].ids, alone[i].ids) << "client " << i;
  }
}

TEST_F(GrpcClusterTest, LogprobsUsageAndTimingsArrive) {
  StartCluster(2);
  v1::GenerateRequest request = IdsRequest({5, 6, 7}, 4);
  request.mutable_sampling()->set_top_logprobs(3);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  int tokens = 0;
  while (reader->Read(&response)) {
    ASSERT_EQ(response.ids_size(), response.logprobs_size());
    for (int i = 0; i < response.ids_size(); ++i, ++tokens) {
      ASSERT_EQ(response.logprobs(i).top_size(), 3);
      EXPECT_EQ(response.logprobs(i).top(0).token(), response.ids(i));  // greedy takes the most probable
      EXPECT_EQ(response.logprobs(i).top(0).logprob(), response.logprobs(i).logprob());
      EXPECT_LT(response.logprobs(i).logprob(), 0);
    }
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 4);
  EXPECT_EQ(response.usage().prompt_tokens(), 3u);
  EXPECT_EQ(response.usage().generated_tokens(), 4u);
  EXPECT_GT(response.timings().prefill_s(), 0);
  EXPECT_GT(response.timings().decode_s(), 0);
}

TEST_F(GrpcClusterTest, BadRequestsAreRefusedWithTheValueAndTheLimit) {
  StartCluster(1);
  ASSERT_TRUE(Ask(IdsRequest({5}, 1)).status.ok());
  v1::GenerateRequest request = IdsRequest({5}, 1);
  request.set_model("other");
  ExpectRefused(request, absl::StatusCode::kNotFound, "other");
  ExpectRefused(IdsRequest({5}, 0), absl::StatusCode::kInvalidArgument, "max_tokens");
  ExpectRefused(IdsRequest({}, 1), absl::StatusCode::kInvalidArgument, "");
  ExpectRefused(IdsRequest({999999}, 1), absl::StatusCode::kInvalidArgument, "999999");
  ExpectRefused(IdsRequest(std::vector<uint32_t>(300, 5), 1), absl::StatusCode::kInvalidArgument, "300");
  request = IdsRequest({5}, 1);
  request.mutable_sampling()->set_temperature(-2);
  ExpectRefused(request, absl::StatusCode::kInvalidArgument, "temperature");
  request = IdsRequest({5}, 1);
  request.add_stop("");
  ExpectRefused(request, absl::StatusCode::kInvalidArgument, "stop");
  ExpectRefused(v1::GenerateRequest(), absl::StatusCode::kInvalidArgument, "");
}

TEST_F(GrpcClusterTest, OversizedMessageIsRefusedAndTheServerLivesOn) {
  StartCluster(1);
  v1::GenerateRequest request;
  request.set_prompt(std::string(proto_support::kMaxMessageBytes + 1024, 'x'));
  EXPECT_EQ(Ask(request).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Ask(IdsRequest({5}, 1)).status.ok());
}

TEST_F(GrpcClusterTest, DeadlineEndsTheAnswerAndFreesItsPages) {
  StartCluster(2);
  ASSERT_TRUE(Ask(IdsRequest({5}, 1)).status.ok());
  // Deadlines from too short to finish to ample: each ends with one of the two codes, and never leaves a page behind.
  for (int ms : {1, 2, 4, 8}) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(ms));
    auto reader = stub_->Generate(&context, IdsRequest({5, 6}, 250));
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
    }
    const grpc::StatusCode code = reader->Finish().error_code();
    EXPECT_TRUE(code == grpc::DEADLINE_EXCEEDED || code == grpc::OK) << code;
  }
  const v1::ClusterState state =
      WaitForState([](const v1::ClusterState& s) { return s.running() == 0 && s.kv_pages_used() == 0; });
  EXPECT_EQ(state.running(), 0u);
  EXPECT_EQ(state.kv_pages_used(), 0u);
}

TEST_F(GrpcClusterTest, CancelledCallFreesItsPages) {
  StartCluster(2);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, IdsRequest({5, 6}, 250));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  const v1::ClusterState state =
      WaitForState([](const v1::ClusterState& s) { return s.running() == 0 && s.kv_pages_used() == 0; });
  EXPECT_EQ(state.kv_pages_used(), 0u);
}

TEST_F(GrpcClusterTest, TokenizeDetokenizeAndListModels) {
  StartCluster(1);
  grpc::ClientContext tokenize_context, detokenize_context, list_context;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("hello there");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&tokenize_context, tokenize, &ids).ok());
  ASSERT_GT(ids.ids_size(), 0);
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_ids() = ids.ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&detokenize_context, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "hello there");
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&list_context, v1::ListModelsRequest(), &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).architecture(), "llama");
  EXPECT_EQ(models.models(0).context(), 256u);
}

v1::EmbedRequest LongInputs(int count) {
  v1::EmbedRequest request;
  for (int i = 0; i < count; ++i) {
    v1::TokenIds* ids = request.add_inputs()->mutable_ids();
    for (int k = 0; k < 250; ++k) ids->add_ids(3 + (i * 37 + k * 11) % 290);
  }
  return request;
}

TEST_F(GrpcClusterTest, EmbeddingsEqualThoseOfAnEmbeddedCluster) {
  StartCluster(2);
  auto local = TinyCluster(1);
  for (v1::Pooling pooling : {v1::POOLING_MEAN, v1::POOLING_LAST, v1::POOLING_CLS}) {
    v1::EmbedRequest request = LongInputs(12);
    request.set_pooling(pooling);
    request.add_inputs()->set_text("the cat sat on the mat");
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    v1::EmbedResponse response;
    const grpc::Status status = stub_->Embed(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    Interrupt interrupt;
    const auto expected = local->Embed(request, interrupt);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ(response.SerializeAsString(), expected->SerializeAsString());
  }
  grpc::ClientContext context;
  v1::EmbedResponse response;
  const grpc::Status refused = stub_->Embed(&context, v1::EmbedRequest(), &response);
  EXPECT_EQ(refused.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("inputs has 0 entries"));
}

TEST_F(GrpcClusterTest, EmbeddingsSurviveALostWorkerAndADeadlineFreesTheirPages) {
  StartCluster(2);
  const v1::EmbedRequest request = LongInputs(200);
  Interrupt interrupt;
  const auto expected = TinyCluster(1)->Embed(request, interrupt);
  ASSERT_TRUE(expected.ok()) << expected.status();
  AddWorker();
  WaitForState([](const v1::ClusterState& s) { return s.workers_size() == 3 && s.phase() == v1::PHASE_SERVING; });
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  v1::EmbedResponse response;
  grpc::Status status;
  std::thread client([&] { status = stub_->Embed(&context, request, &response); });
  WaitForState([](const v1::ClusterState& s) { return s.running() >= 1; });
  workers_[0]->Stop();
  client.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.SerializeAsString(), expected->SerializeAsString());

  // All three together stay below the number of requests that may wait.
  const v1::EmbedRequest shorter = LongInputs(80);
  for (int ms : {1, 3, 9}) {
    grpc::ClientContext short_context;
    short_context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(ms));
    const grpc::StatusCode code = stub_->Embed(&short_context, shorter, &response).error_code();
    EXPECT_TRUE(code == grpc::DEADLINE_EXCEEDED || code == grpc::OK) << code;
  }
  const v1::ClusterState state =
      WaitForState([](const v1::ClusterState& s) { return s.running() == 0 && s.kv_pages_used() == 0; });
  EXPECT_EQ(state.kv_pages_used(), 0u);
}

TEST_F(GrpcClusterTest, AdaptersAreFetchedListedAndKeptThroughTheLossOfAWorker) {
  const std::string path = absl::StrCat(TempFolder(), "/poet.gguf");
  ASSERT_TRUE(MakeTinyAdapter(MakeTinyModel({.layers = 4}), {.rank = 8, .alpha = 16}).Write(path).ok());
  adapters_ = {absl::StrCat("poet=", path)};
  StartCluster(2);
  v1::GenerateRequest request = IdsRequest({5, 6, 7}, 240);
  const Answer plain = Ask(request);
  request.add_lora()->set_name("poet");
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.adapters = {{"poet", path}};
  auto local = cli::LocalCluster::Create(options);
  ASSERT_TRUE(local.ok()) << local.status();
  const Answer expected = testing::Ask(**local, request);
  ASSERT_TRUE(expected.status.ok()) << expected.status;
  EXPECT_NE(plain.ids, expected.ids);
  EXPECT_EQ(Ask(request).ids, expected.ids);
  grpc::ClientContext context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&context, v1::ListModelsRequest(), &models).ok());
  ASSERT_EQ(models.models(0).adapters_size(), 1);
  EXPECT_EQ(models.models(0).adapters(0), "poet");

  AddWorker();
  WaitForState([](const v1::ClusterState& s) { return s.workers_size() == 3 && s.phase() == v1::PHASE_SERVING; });
  Answer answer;
  std::thread client([&] { answer = Ask(request); });
  WaitForState([](const v1::ClusterState& s) { return s.running() == 1; });
  workers_[0]->Stop();
  client.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.ids, expected.ids);
}

TEST_F(GrpcClusterTest, HealthFollowsThePipelineAndReflectionListsTheServices) {
  StartCoordinator(1);
  // grpc.health.v1: request {1: service}, response {1: 1 = SERVING, 2 = NOT_SERVING}.
  const std::string service = "tandem.v1.Tandem";
  const std::string request = absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
  EXPECT_EQ(RawCall(server_, "/grpc.health.v1.Health/Check", request).response(), "\x08\x02");
  AddWorker();
  WaitUntilServing();
  EXPECT_EQ(RawCall(server_, "/grpc.health.v1.Health/Check", request).response(), "\x08\x01");
  // grpc.reflection: request {7: list_services}.
  const std::string list =
      RawCall(server_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x00", 2))
          .response();
  EXPECT_THAT(list, HasSubstr("tandem.v1.Tandem"));
  EXPECT_THAT(list, HasSubstr("tandem.v1.Cluster"));
}

TEST_F(GrpcClusterTest, AWatcherSeesEveryStepWithTheTimesOfItsStages) {
  StartCluster(2);
  auto cluster = v1::Cluster::NewStub(proto_support::MakeChannel(server_));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  auto watch = cluster->WatchSteps(&context, v1::WatchStepsRequest());
  watch->WaitForInitialMetadata();
  ASSERT_TRUE(Ask(IdsRequest({5, 6, 7}, 10)).status.ok());
  uint32_t prefill = 0, decode = 0;
  uint64_t step = 0, planned_us = 0;
  v1::StepTrace trace;
  while (prefill < 3 || decode < 9) {
    ASSERT_TRUE(watch->Read(&trace));
    EXPECT_EQ(trace.epoch(), coordinator_->state().pipelines(0).epoch());
    EXPECT_EQ(trace.step(), ++step);
    EXPECT_GE(trace.planned_us(), planned_us);
    planned_us = trace.planned_us();
    ASSERT_EQ(trace.stages_size(), 2);
    uint64_t accounted_us = 0;
    for (const v1::StageTiming& stage : trace.stages()) accounted_us += stage.queue_us() + stage.compute_us();
    EXPECT_LE(accounted_us, trace.round_trip_us() + 4);  // each of the four is rounded
    EXPECT_EQ(trace.lost(), 0u);
    prefill += trace.prefill_tokens();
    decode += trace.decode_tokens();
  }
  EXPECT_EQ(prefill, 3u);
  EXPECT_EQ(decode, 9u);
  coordinator_->Stop();
  EXPECT_FALSE(watch->Read(&trace));
  EXPECT_EQ(watch->Finish().error_code(), grpc::UNAVAILABLE);
}

TEST_F(GrpcClusterTest, WorkerOfAnotherProtocolVersionIsRefusedWithBothNumbers) {
  StartCoordinator(1);
  auto cluster = v1::Cluster::NewStub(proto_support::MakeChannel(server_));
  grpc::ClientContext context;
  auto stream = cluster->Join(&context);
  v1::WorkerMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(proto_support::kProtocolVersion + 41);
  hello.set_name("old");
  hello.set_address("127.0.0.1:1");
  stream->Write(message);
  v1::CoordinatorMessage answer;
  EXPECT_FALSE(stream->Read(&answer));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat(proto_support::kProtocolVersion)));
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat(proto_support::kProtocolVersion + 41)));
}

TEST_F(GrpcClusterTest, NoWorkerHasRoomSaysHowMuchIsNeeded) {
  StartCoordinator(1);
  AddWorker(/*memory_bytes=*/1 << 20);
  const v1::ClusterState state = WaitForState([](const v1::ClusterState& s) {
    return s.phase() == v1::PHASE_WAITING && s.detail().find("iB") != std::string::npos;
  });
  EXPECT_EQ(state.phase(), v1::PHASE_WAITING);
  EXPECT_THAT(state.detail(), HasSubstr("worker-0 1.0 MiB"));
}

TEST_F(GrpcClusterTest, PortInUseNamesTheAddress) {
  StartCoordinator(1);
  coordinator::CoordinatorConfig config;
  config.model_path = WriteTinyModel();
  config.listen = server_;
  const auto second = coordinator::Coordinator::Start(config);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_));
}

TEST_F(GrpcClusterTest, LostWorkerIsReplacedAndTheAnswerIsTheSame) {
  StartCluster(2);
  const v1::GenerateRequest request = IdsRequest({5, 6, 7}, 240);
  const Answer expected = Ask(request);
  ASSERT_TRUE(expected.status.ok()) << expected.status;
  AddWorker();
  WaitForState([](const v1::ClusterState& s) { return s.workers_size() == 3 && s.phase() == v1::PHASE_SERVING; });
  Answer answer;
  std::thread client([&] { answer = Ask(request); });
  WaitForState([](const v1::ClusterState& s) { return s.running() == 1; });
  workers_[0]->Stop();
  client.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.ids, expected.ids);
}

}  // namespace
}  // namespace tandem::testing
