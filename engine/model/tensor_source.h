// Where a stage gets its weights from: a local file, or the coordinator over the network. No network header here; the
// worker implements the remote one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // Fills `out` with bytes of `tensor` from `offset` on; the tensor holds them. They may be damaged until the tensor's
  // last byte has been read: a source that checks a sum can tell only then. Errors: any; the load stops and returns it.
  virtual absl::Status Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) = 0;
  // True: Read may be called for any range at any time, by several threads at once. False: by one thread at a time (not
  // always the same), for the stage's tensors in the order in which it loads them, each once from its first byte to its
  // last.
  virtual bool concurrent() const = 0;
};

// Reads from an open file, which must outlive the source. Errors: those of GgufFile::Read.
class FileTensorSource : public TensorSource {
 public:
  explicit FileTensorSource(const GgufFile& file) : file_(file) {}
  absl::Status Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) override {
    return file_.Read(tensor, offset, out);
  }
  bool concurrent() const override { return true; }

 private:
  const GgufFile& file_;
};

}  // namespace tandem::engine
