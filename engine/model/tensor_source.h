// Where a stage gets its weights from: a local file, or the coordinator over the network. No network header here; the
// worker implements the remote one.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

// Bytes of one tensor in file format, always in `bytes`: a view into memory that outlives the source, or into `owned`.
// Movable; a copy would still view the original's bytes.
struct TensorData {
  std::span<const std::byte> bytes;
  std::vector<std::byte> owned;  // empty for a view of other memory
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // Called by one thread, once per tensor that the stage needs. Errors: any; the load stops and returns it.
  virtual absl::StatusOr<TensorData> Read(const GgufTensor& tensor) = 0;
};

// Reads from a mapped file, which must outlive the source.
class FileTensorSource : public TensorSource {
 public:
  explicit FileTensorSource(const GgufFile& file) : file_(file) {}
  absl::StatusOr<TensorData> Read(const GgufTensor& tensor) override { return TensorData{file_.Data(tensor), {}}; }

 private:
  const GgufFile& file_;
};

}  // namespace tandem::engine
