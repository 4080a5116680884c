// Where a stage gets its weights from: a local file, or the coordinator over the network. No network header here; the
// worker implements the remote one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

// Memory for one tensor at a time. It grows to the largest one and is not cleared in between. Thread-compatible.
class TensorBuffer {
 public:
  // `tensor.bytes` bytes with any contents, until the next call. Errors: kResourceExhausted (names tensor and bytes).
  absl::StatusOr<std::span<std::byte>> For(const GgufTensor& tensor);

 private:
  std::unique_ptr<std::byte[]> bytes_;
  uint64_t size_ = 0;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // Bytes of one tensor in file format; they stay until the next call. Called by one thread, once per tensor that the
  // stage needs. Errors: any; the load stops and returns it.
  virtual absl::StatusOr<std::span<const std::byte>> Read(const GgufTensor& tensor) = 0;
};

// Reads from an open file, which must outlive the source. Errors: those of GgufFile::Read and TensorBuffer.
class FileTensorSource : public TensorSource {
 public:
  explicit FileTensorSource(const GgufFile& file) : file_(file) {}
  absl::StatusOr<std::span<const std::byte>> Read(const GgufTensor& tensor) override;

 private:
  const GgufFile& file_;
  TensorBuffer buffer_;
};

}  // namespace tandem::engine
