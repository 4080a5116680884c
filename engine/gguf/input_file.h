// Internal to engine/gguf: a file that is read by position. Tensors are read with system calls and not through a
// mapping, so a file that shrinks or a disk that fails gives a status, where touching a mapped page would end the
// process with SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::engine {

// A regular file, open for reading; stays readable when its name is removed. Thread-safe.
class InputFile {
 public:
  // Errors: kNotFound, kPermissionDenied, kUnavailable (another system error), kInvalidArgument (no regular file, or
  // an empty one); each begins with `path`.
  static absl::StatusOr<std::unique_ptr<InputFile>> Open(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  // Fills `out` with the bytes from `offset` on. Errors: kDataLoss (the file ends before: it has shrunk), kUnavailable
  // (the system's message); each begins with the path.
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(std::string path, int fd, uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  const std::string path_;
  const int fd_;
  const uint64_t size_;
};

// The first bytes of a file in memory of their own, read from the disk as far as they are asked for: a header has no
// length field, so how much of the file it is shows only while it is parsed. Addresses never change.
// Thread-compatible.
class FilePrefix {
 public:
  // Reserves address space for the first `size` bytes, at most those of `file`, which must live until the last Fill.
  // Errors: kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<FilePrefix>> Create(const InputFile& file, uint64_t size);
  ~FilePrefix();
  FilePrefix(const FilePrefix&) = delete;
  FilePrefix& operator=(const FilePrefix&) = delete;

  // All that was reserved. Only what Fill has brought in has the file's contents.
  std::span<const std::byte> bytes() const { return {bytes_, size_}; }
  // Brings in the bytes before `end`, which is at most bytes().size(). False, and status() says why, if it cannot.
  bool Fill(uint64_t end);
  const absl::Status& status() const { return status_; }

 private:
  FilePrefix(const InputFile& file, std::byte* bytes, uint64_t size) : file_(file), bytes_(bytes), size_(size) {}
  const InputFile& file_;
  std::byte* const bytes_;
  const uint64_t size_;
  uint64_t filled_ = 0;
  absl::Status status_;
};

}  // namespace tandem::engine
