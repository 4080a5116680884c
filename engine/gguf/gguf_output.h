// A GGUF file while it is being written: made by GgufWriter::Create, filled piece by piece, then given its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::engine {

// Writes to a temporary file in the folder of the final one, so a reader never sees half a file; destroyed without
// Finish, it removes it. Write is thread-safe; Finish is called once, after all writes.
class GgufOutput {
 public:
  ~GgufOutput();
  GgufOutput(const GgufOutput&) = delete;
  GgufOutput& operator=(const GgufOutput&) = delete;

  // Bytes of tensor `tensor` (in the order of GgufWriter's calls) from `offset` on, within the tensor. What is never
  // written stays zero. Errors: kUnavailable with the operating system's message, kOutOfRange.
  absl::Status Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes);
  // Puts everything on the disk and gives the file its name, replacing an older one. Errors: kUnavailable.
  absl::Status Finish();

 private:
  friend class GgufWriter;
  struct Extent {
    uint64_t offset = 0, bytes = 0;  // in the file
  };
  // Errors: kUnavailable; kResourceExhausted (the disk has less free space than the file needs; gives both).
  static absl::StatusOr<std::unique_ptr<GgufOutput>> Create(const std::string& path, std::span<const std::byte> header,
                                                            std::vector<Extent> tensors, uint64_t file_bytes);
  GgufOutput(std::string path, std::string temporary, int fd, std::vector<Extent> tensors)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), tensors_(std::move(tensors)) {}
  absl::Status Prepare(std::span<const std::byte> header, uint64_t file_bytes);
  absl::Status WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  // The operating system's reason, in front of it the path and what could not be done.
  absl::Status Failed(const char* action, int error) const;

  const std::string path_, temporary_;
  int fd_;  // -1 once Finish has closed it
  const std::vector<Extent> tensors_;
  bool named_ = false;  // the temporary file has become the final one
};

}  // namespace tandem::engine
