#include "tests/worker/fake_coordinator.h"

#include <xxhash.h>

#include <algorithm>

#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/support/channel.h"

namespace tandem::testing {
namespace {

constexpr size_t kChunkBytes = 4096;  // small, so that tensors of a tiny model have several

std::string AsString(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

FakeCoordinator::FakeCoordinator(int port) : pipeline_(links::MakePipelineService()) {
  proto_support::PrepareGrpc();
  grpc::ServerBuilder builder;
  proto_support::ConfigureServer(builder);
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  builder.RegisterService(pipeline_->service());
  server_ = builder.BuildAndStart();
  EXPECT_NE(server_, nullptr) << "port " << port;
}

void FakeCoordinator::Stop() {
  if (server_ == nullptr) return;
  pipeline_->StopServing();
  EndMemberships();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
}

std::string FakeCoordinator::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeCoordinator::SetModel(std::vector<std::byte> file) {
  absl::MutexLock lock(&mu_);
  bytes_ = std::move(file);
  auto parsed = engine::GgufFile::Parse(bytes_);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  file_ = *std::move(parsed);
}

void FakeCoordinator::SetModel(std::unique_ptr<engine::GgufFile> file) {
  absl::MutexLock lock(&mu_);
  file_ = std::move(file);
}

v1::ModelRef FakeCoordinator::model() {
  absl::MutexLock lock(&mu_);
  v1::ModelRef model;
  model.set_name("tiny");
  model.set_fingerprint(*file_->Fingerprint());
  model.set_file_bytes(file_->file_bytes());
  model.set_header_bytes(file_->header().size());
  return model;
}

bool FakeCoordinator::Tell(const v1::CoordinatorMessage& message, const std::string& address) {
  absl::MutexLock lock(&mu_);
  const auto it = streams_.find(address.empty() ? last_joined_ : address);
  return it != streams_.end() && it->second->Write(message);
}

void FakeCoordinator::EndMemberships() {
  absl::MutexLock lock(&mu_);
  for (grpc::ServerContext* context : contexts_) context->TryCancel();
}

v1::WorkerMessage FakeCoordinator::Expect(const std::function<bool(const v1::WorkerMessage&)>& matches) {
  absl::MutexLock lock(&mu_);
  const auto find = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return std::find_if(messages_.begin(), messages_.end(), matches);
  };
  const auto there = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return find() != messages_.end(); };
  if (!mu_.AwaitWithTimeout(absl::Condition(&there), kTestDeadline)) {
    ADD_FAILURE() << "no such message from the worker";
    return {};
  }
  const auto it = find();
  v1::WorkerMessage found = *it;
  messages_.erase(messages_.begin(), it + 1);
  return found;
}

v1::Hello FakeCoordinator::ExpectHello() {
  return Expect([](const v1::WorkerMessage& message) { return message.has_hello(); }).hello();
}

v1::LoadDone FakeCoordinator::ExpectDone(uint64_t epoch) {
  return Expect([&](const v1::WorkerMessage& message) { return message.done().epoch() == epoch; }).done();
}

std::vector<std::string> FakeCoordinator::fetched() {
  absl::MutexLock lock(&mu_);
  return fetched_;
}

grpc::Status FakeCoordinator::Join(grpc::ServerContext* context, JoinStream* stream) {
  {
    absl::MutexLock lock(&mu_);
    contexts_.push_back(context);
  }
  v1::WorkerMessage message;
  while (stream->Read(&message)) {
    const bool is_hello = message.has_hello();
    absl::MutexLock lock(&mu_);
    messages_.push_back(message);
    if (!is_hello) continue;
    if (!join_status.ok()) break;
    v1::CoordinatorMessage answer;
    answer.mutable_welcome()->set_worker_id(1);
    answer.mutable_welcome()->set_name(message.hello().name());
    answer.mutable_welcome()->set_heartbeat_ms(heartbeat_ms);
    answer.mutable_welcome()->set_lease_ms(10 * heartbeat_ms);
    stream->Write(answer);
    last_joined_ = message.hello().address();
    streams_[last_joined_] = stream;
  }
  absl::MutexLock lock(&mu_);
  contexts_.erase(std::find(contexts_.begin(), contexts_.end(), context));
  std::erase_if(streams_, [&](const auto& entry) { return entry.second == stream; });
  return join_status;
}

grpc::Status FakeCoordinator::FetchHeader(grpc::ServerContext*, const v1::FetchHeaderRequest*,
                                          grpc::ServerWriter<v1::FileChunk>* writer) {
  std::string header;
  {
    absl::MutexLock lock(&mu_);
    header = AsString(file_->header());
  }
  for (size_t begin = 0; begin < header.size(); begin += kChunkBytes) {
    v1::FileChunk chunk;
    chunk.set_data(header.substr(begin, kChunkBytes));
    if (spoil_header) spoil_header(chunk);
    if (!writer->Write(chunk)) break;
  }
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::FetchTensors(grpc::ServerContext*, const v1::FetchTensorsRequest* request,
                                           grpc::ServerWriter<v1::TensorChunk>* writer) {
  for (int i = 0; i < request->tensors_size(); ++i) {
    std::string data;
    {
      absl::MutexLock lock(&mu_);
      const engine::GgufTensor* tensor = file_->FindTensor(request->tensors(i));
      if (tensor == nullptr) return grpc::Status(grpc::StatusCode::NOT_FOUND, request->tensors(i));
      data = AsString(*file_->ReadAll(*tensor));
      fetched_.push_back(request->tensors(i));
    }
    for (size_t begin = 0; begin < data.size(); begin += kChunkBytes) {
      v1::TensorChunk chunk;
      chunk.set_tensor(i);
      chunk.set_data(data.substr(begin, kChunkBytes));
      if (begin + kChunkBytes >= data.size()) chunk.set_checksum(XXH3_64bits(data.data(), data.size()));
      if (spoil_tensor && !spoil_tensor(chunk)) return grpc::Status::OK;
      if (!writer->Write(chunk)) return grpc::Status::CANCELLED;
    }
  }
  return grpc::Status::OK;
}

}  // namespace tandem::testing
