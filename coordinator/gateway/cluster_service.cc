#include "coordinator/gateway/cluster_service.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#define XXH_STATIC_LINKING_ONLY  // the state of a running checksum as a member
#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "coordinator/gateway/join_stream.h"
#include "coordinator/gateway/watch_stream.h"
#include "engine/base/status_macros.h"
#include "proto/support/status_convert.h"

namespace tandem::coordinator {
namespace {

constexpr uint64_t kChunkBytes = uint64_t{1} << 20;

// Ends a streaming call at once. Deletes itself.
template <typename Response>
class Refusal : public grpc::ServerWriteReactor<Response> {
 public:
  explicit Refusal(const absl::Status& status) { this->Finish(proto_support::ToGrpc(status)); }
  void OnDone() override { delete this; }
};

// Writes chunks one after the other, each filled on the file reader's thread. Deletes itself.
template <typename Response>
class ChunkStream : public grpc::ServerWriteReactor<Response> {
 public:
  // Fills the next chunk; false: there are no more. An error ends the call.
  using Fill = std::function<absl::StatusOr<bool>(Response* chunk)>;
  ChunkStream(SerialExecutor& reader, Fill fill) : reader_(reader), fill_(std::move(fill)) {}

  void Start() { Next(); }
  void OnWriteDone(bool ok) override {
    if (ok) {
      Next();
    } else {
      this->Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

 private:
  void Next() {
    const bool posted = reader_.Post([this] {
      const absl::StatusOr<bool> filled = fill_(&chunk_);
      if (filled.ok() && *filled) {
        this->StartWrite(&chunk_);
      } else {
        this->Finish(proto_support::ToGrpc(filled.status()));
      }
    });
    if (!posted) this->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the coordinator is stopping"));
  }

  SerialExecutor& reader_;
  const Fill fill_;
  Response chunk_;  // being filled or written
};

// Walks over the bytes of tensors in chunks and sums each one up.
class TensorReader {
 public:
  TensorReader(const engine::GgufFile& file, std::vector<const engine::GgufTensor*> tensors)
      : file_(file), tensors_(std::move(tensors)) {}

  absl::StatusOr<bool> Fill(v1::TensorChunk* chunk) {
    if (tensor_ == tensors_.size()) return false;
    if (offset_ == 0) XXH3_64bits_reset(hash_.get());
    const engine::GgufTensor& tensor = *tensors_[tensor_];
    std::string& part = *chunk->mutable_data();
    part.resize(std::min(kChunkBytes, tensor.bytes - offset_));
    TANDEM_RETURN_IF_ERROR(file_.Read(tensor, offset_, std::as_writable_bytes(std::span(part.data(), part.size()))));
    XXH3_64bits_update(hash_.get(), part.data(), part.size());
    chunk->set_tensor(static_cast<uint32_t>(tensor_));
    chunk->clear_checksum();
    offset_ += part.size();
    if (offset_ == tensor.bytes) {
      chunk->set_checksum(XXH3_64bits_digest(hash_.get()));
      ++tensor_;
      offset_ = 0;
    }
    return true;
  }

 private:
  const engine::GgufFile& file_;
  const std::vector<const engine::GgufTensor*> tensors_;
  size_t tensor_ = 0;
  uint64_t offset_ = 0;  // in its bytes
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash_{XXH3_createState(), XXH3_freeState};
};

}  // namespace

absl::StatusOr<const engine::GgufFile*> ClusterService::FindFile(const std::string& fingerprint) const {
  if (const engine::GgufFile* file = model_.FindFile(fingerprint); file != nullptr) return file;
  const engine::GgufFile* const draft = draft_ != nullptr ? draft_->FindFile(fingerprint) : nullptr;
  if (draft != nullptr) return draft;
  return absl::NotFoundError(absl::StrCat("no file with fingerprint \"", fingerprint.substr(0, 64),
                                          "\" here; served is ", model_.fingerprint(), " (", model_.name(), ")"));
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* ClusterService::Join(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<JoinStream>(manager_, context->peer());
  stream->Start();
  return stream.get();
}

grpc::ServerWriteReactor<v1::FileChunk>* ClusterService::FetchHeader(grpc::CallbackServerContext* context,
                                                                     const v1::FetchHeaderRequest* request) {
  const absl::StatusOr<const engine::GgufFile*> file = FindFile(request->fingerprint());
  if (!file.ok()) return new Refusal<v1::FileChunk>(file.status());
  auto fill = [header = (*file)->header()](v1::FileChunk* chunk) mutable {
    if (header.empty()) return false;
    const auto part = header.first(std::min<uint64_t>(kChunkBytes, header.size()));
    chunk->set_data(part.data(), part.size());
    header = header.subspan(part.size());
    return true;
  };
  auto* stream = new ChunkStream<v1::FileChunk>(file_reader_, std::move(fill));
  stream->Start();
  return stream;
}

grpc::ServerWriteReactor<v1::TensorChunk>* ClusterService::FetchTensors(grpc::CallbackServerContext* context,
                                                                        const v1::FetchTensorsRequest* request) {
  const absl::StatusOr<const engine::GgufFile*> file = FindFile(request->fingerprint());
  if (!file.ok()) return new Refusal<v1::TensorChunk>(file.status());
  std::vector<const engine::GgufTensor*> tensors;
  for (const std::string& name : request->tensors()) {
    tensors.push_back((*file)->FindTensor(name));
    if (tensors.back() != nullptr) continue;
    return new Refusal<v1::TensorChunk>(
        absl::NotFoundError(absl::StrCat("the model has no tensor \"", name.substr(0, 128), "\"")));
  }
  auto reader = std::make_shared<TensorReader>(**file, std::move(tensors));
  auto* stream =
      new ChunkStream<v1::TensorChunk>(file_reader_, [reader](v1::TensorChunk* chunk) { return reader->Fill(chunk); });
  stream->Start();
  return stream;
}

grpc::ServerUnaryReactor* ClusterService::GetState(grpc::CallbackServerContext* context,
                                                   const v1::GetStateRequest* request, v1::ClusterState* response) {
  *response = manager_.state();
  complete_state_(response);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ClusterService::Plan(grpc::CallbackServerContext* context, const v1::PlanRequest* request,
                                               v1::PlanReply* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  constexpr uint32_t kMost = 1u << 30;
  if (request->context() > kMost) {
    reactor->Finish(proto_support::ToGrpc(
        absl::InvalidArgumentError(absl::StrCat("context is ", request->context(), " tokens, at most ", kMost))));
    return reactor;
  }
  manager_.Plan(static_cast<int32_t>(request->context()), [reactor, response](absl::StatusOr<v1::PlanReply> plan) {
    if (plan.ok()) *response = *std::move(plan);
    reactor->Finish(proto_support::ToGrpc(plan.status()));
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::StepTrace>* ClusterService::WatchSteps(grpc::CallbackServerContext* context,
                                                                    const v1::WatchStepsRequest* request) {
  auto stream = std::make_shared<WatchStream>(steps_);
  stream->Start();
  return stream.get();
}

}  // namespace tandem::coordinator
