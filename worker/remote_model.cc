#include "worker/remote_model.h"

#include <xxhash.h>

#include <cstring>
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
    : tensors_(std::move(tensors)), on_bytes_(std::move(on_bytes)), watch_(cancel, context_) {
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

absl::StatusOr<std::span<const std::byte>> RemoteTensorSource::Read(const engine::GgufTensor& tensor) {
  if (next_ >= tensors_.size() || tensors_[next_] != tensor.name) {
    return absl::InternalError(absl::StrCat("tensor ", tensor.name, " was asked for out of turn"));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, buffer_.For(tensor));
  TANDEM_RETURN_IF_ERROR(ReadBytes(tensor, bytes));
  ++next_;
  return bytes;
}

absl::Status RemoteTensorSource::ReadBytes(const engine::GgufTensor& tensor, std::span<std::byte> bytes) {
  const auto lost = [&](const auto&... what) {
    return absl::DataLossError(absl::StrCat("tensor ", tensor.name, ": ", what...));
  };
  uint64_t done = 0;
  v1::TensorChunk chunk;
  for (;;) {
    if (!reader_->Read(&chunk)) return StreamEnded(tensor, done);
    if (chunk.tensor() != next_) return lost("a piece of tensor ", chunk.tensor(), " came, expected one of ", next_);
    const uint64_t size = chunk.data().size();
    if (size > bytes.size() - done) return lost("more came than the ", bytes.size(), " bytes that it has");
    if (size == 0 && !chunk.has_checksum()) return lost("an empty piece came");
    if (size > 0) std::memcpy(bytes.data() + done, chunk.data().data(), size);
    done += size;
    if (on_bytes_ && size > 0) on_bytes_(size);
    if (!chunk.has_checksum()) continue;
    if (done != bytes.size()) return lost("it ended after ", done, " of ", bytes.size(), " bytes");
    const uint64_t checksum = XXH3_64bits(bytes.data(), bytes.size());
    if (checksum != chunk.checksum()) {
      return lost("checksum is ", absl::Hex(checksum, absl::kZeroPad16), ", expected ",
                  absl::Hex(chunk.checksum(), absl::kZeroPad16), ": it was damaged on its way");
    }
    return absl::OkStatus();
  }
}

absl::Status RemoteTensorSource::StreamEnded(const engine::GgufTensor& tensor, uint64_t bytes) {
  finished_ = true;
  const absl::Status status = proto_support::FromGrpc(reader_->Finish());
  const std::string what =
      absl::StrCat("tensor ", tensor.name, ": the stream ended after ", bytes, " of ", tensor.bytes, " bytes");
  if (status.ok()) return absl::DataLossError(what);
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace tandem::worker
