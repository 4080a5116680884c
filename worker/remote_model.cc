#include "worker/remote_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "proto/support/status_convert.h"

namespace tandem::worker {
namespace {

absl::Status CheckSizes(const v1::ModelRef& model) {
  if (model.header_bytes() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model's header has ", model.header_bytes(), " bytes, limit ", kMaxHeaderBytes));
  }
  if (model.header_bytes() > model.file_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("the model's header has ", model.header_bytes(),
                                                   " bytes, more than its file, ", model.file_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<engine::GgufFile>> FetchHeader(v1::Cluster::StubInterface& stub,
                                                              const v1::ModelRef& model, LoadCancel& cancel) {
  TANDEM_RETURN_IF_ERROR(CheckSizes(model));
  grpc::ClientContext context;
  const LoadCancel::Watch watch(cancel, context);
  v1::FetchHeaderRequest request;
  request.set_fingerprint(model.fingerprint());
  const auto reader = stub.FetchHeader(&context, request);
  std::vector<std::byte> header;
  header.reserve(model.header_bytes());
  v1::FileChunk chunk;
  bool too_long = false;
  while (!too_long && reader->Read(&chunk)) {
    too_long = chunk.data().size() > model.header_bytes() - header.size();
    if (too_long) {
      context.TryCancel();
    } else {
      const auto* data = reinterpret_cast<const std::byte*>(chunk.data().data());
      header.insert(header.end(), data, data + chunk.data().size());
    }
  }
  const absl::Status status = proto_support::FromGrpc(reader->Finish());
  if (!too_long && !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("fetching the model's header: ", status.message()));
  }
  if (too_long || header.size() != model.header_bytes()) {
    return absl::DataLossError(absl::StrCat("the model's header came with ", too_long ? "more" : "fewer", " than the ",
                                            model.header_bytes(), " bytes announced"));
  }
  return engine::GgufFile::ParseHeader(std::move(header), model.file_bytes());
}

RemoteTensorSource::RemoteTensorSource(v1::Cluster::StubInterface& stub, const std::string& fingerprint,
                                       std::vector<std::string> tensors, LoadCancel& cancel, OnBytes on_bytes)
    : tensors_(std::move(tensors)),
      on_bytes_(std::move(on_bytes)),
      watch_(cancel, context_),
      hash_(XXH3_createState(), XXH3_freeState) {
  XXH3_64bits_reset(hash_.get());
  v1::FetchTensorsRequest request;
  request.set_fingerprint(fingerprint);
  for (const std::string& name : tensors_) request.add_tensors(name);
  reader_ = stub.FetchTensors(&context_, request);
}

RemoteTensorSource::~RemoteTensorSource() {
  if (finished_) return;
  // gRPC wants a stream read to its end, which a cancelled one reaches at once.
  context_.TryCancel();
  v1::TensorChunk chunk;
  while (reader_->Read(&chunk)) {
  }
  reader_->Finish();
}

absl::Status RemoteTensorSource::Read(const engine::GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) {
  if (next_ >= tensors_.size() || tensors_[next_] != tensor.name || offset != given_) {
    return absl::InternalError(absl::StrCat("tensor ", tensor.name, ", byte ", offset, " was asked for out of turn"));
  }
  while (!out.empty()) {
    if (chunk_used_ == chunk_.data().size()) TANDEM_RETURN_IF_ERROR(NextChunk(tensor));
    const size_t count = std::min(out.size(), chunk_.data().size() - chunk_used_);
    std::copy_n(reinterpret_cast<const std::byte*>(chunk_.data().data()) + chunk_used_, count, out.begin());
    chunk_used_ += count;
    given_ += count;
    out = out.subspan(count);
  }
  if (given_ < tensor.bytes) return absl::OkStatus();
  if (!chunk_.has_checksum()) TANDEM_RETURN_IF_ERROR(NextChunk(tensor));
  ++next_;
  given_ = received_ = 0;
  XXH3_64bits_reset(hash_.get());
  return absl::OkStatus();
}

absl::Status RemoteTensorSource::NextChunk(const engine::GgufTensor& tensor) {
  const auto lost = [&](const auto&... what) {
    return absl::DataLossError(absl::StrCat("tensor ", tensor.name, ": ", what...));
  };
  if (!reader_->Read(&chunk_)) return StreamEnded(tensor);
  chunk_used_ = 0;
  if (chunk_.tensor() != next_) return lost("a piece of tensor ", chunk_.tensor(), " came, expected one of ", next_);
  const uint64_t size = chunk_.data().size();
  if (size > tensor.bytes - received_) return lost("more came than the ", tensor.bytes, " bytes that it has");
  if (size == 0 && !chunk_.has_checksum()) return lost("an empty piece came");
  XXH3_64bits_update(hash_.get(), chunk_.data().data(), size);
  received_ += size;
  if (on_bytes_ && size > 0) on_bytes_(size);
  if (!chunk_.has_checksum()) return absl::OkStatus();
  if (received_ != tensor.bytes) return lost("it ended after ", received_, " of ", tensor.bytes, " bytes");
  const uint64_t checksum = XXH3_64bits_digest(hash_.get());
  if (checksum == chunk_.checksum()) return absl::OkStatus();
  return lost("checksum is ", absl::Hex(checksum, absl::kZeroPad16), ", expected ",
              absl::Hex(chunk_.checksum(), absl::kZeroPad16), ": it was damaged on its way");
}

absl::Status RemoteTensorSource::StreamEnded(const engine::GgufTensor& tensor) {
  finished_ = true;
  const absl::Status status = proto_support::FromGrpc(reader_->Finish());
  const std::string what =
      absl::StrCat("tensor ", tensor.name, ": the stream ended after ", received_, " of ", tensor.bytes, " bytes");
  if (status.ok()) return absl::DataLossError(what);
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace tandem::worker
