// A model file read from the coordinator: its header, and the tensors of one stage.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>
#include <xxhash.h>

#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/tensor_source.h"
#include "tandem/v1/cluster.grpc.pb.h"
#include "worker/load_cancel.h"

namespace tandem::worker {

// Larger headers are refused: vocabularies of today give 10 to 20 MB.
inline constexpr uint64_t kMaxHeaderBytes = 256 << 20;

// Errors: kInvalidArgument (sizes in `model`, or what GgufFile::ParseHeader finds), kDataLoss (more or fewer bytes than
// announced), kCancelled, those of the call.
absl::StatusOr<std::unique_ptr<engine::GgufFile>> FetchHeader(v1::Cluster::StubInterface& stub,
                                                              const v1::ModelRef& model, LoadCancel& cancel);

// One stream that brings the tensors of a stage in the order in which it asks for them. Borrows its arguments.
// Holds one piece at a time. Threading: used by one thread at a time.
class RemoteTensorSource : public engine::TensorSource {
 public:
  // Called after each piece with the number of bytes that came since the last call.
  using OnBytes = std::function<void(uint64_t bytes)>;

  RemoteTensorSource(v1::Cluster::StubInterface& stub, const std::string& fingerprint, std::vector<std::string> tensors,
                     LoadCancel& cancel, OnBytes on_bytes);
  ~RemoteTensorSource() override;

  // Reads in the stream's order. A tensor's last bytes are given only if its checksum is right. Errors: kDataLoss (the
  // stream is not what was asked for, or a checksum is wrong; names the tensor), kInternal (out of order), those of the
  // call.
  absl::Status Read(const engine::GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) override;
  bool concurrent() const override { return false; }

 private:
  // Puts the next piece of `tensor` into chunk_, checked, the checksum included if it brings one.
  absl::Status NextChunk(const engine::GgufTensor& tensor);
  // Why the stream ended before the tensor did.
  absl::Status StreamEnded(const engine::GgufTensor& tensor);

  grpc::ClientContext context_;
  const std::vector<std::string> tensors_;
  const OnBytes on_bytes_;
  const LoadCancel::Watch watch_;
  std::unique_ptr<grpc::ClientReaderInterface<v1::TensorChunk>> reader_;
  size_t next_ = 0;  // index into tensors_
  v1::TensorChunk chunk_;
  size_t chunk_used_ = 0;                                                       // bytes of chunk_ that were given out
  uint64_t received_ = 0, given_ = 0;                                           // bytes of the tensor
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash_;  // of the bytes received
  bool finished_ = false;
};

}  // namespace tandem::worker
