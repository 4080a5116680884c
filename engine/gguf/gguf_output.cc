#include "engine/gguf/gguf_output.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {

absl::Status GgufOutput::Failed(const char* action, int error) const {
  return absl::UnavailableError(absl::StrCat(path_, ": cannot ", action, ": ", std::strerror(error)));
}

absl::StatusOr<std::unique_ptr<GgufOutput>> GgufOutput::Create(const std::string& path,
                                                               std::span<const std::byte> header,
                                                               std::vector<Extent> tensors, uint64_t file_bytes) {
  std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  const int error = errno;
  std::unique_ptr<GgufOutput> output(new GgufOutput(path, std::move(temporary), fd, std::move(tensors)));
  if (fd < 0) return output->Failed("create", error);
  TANDEM_RETURN_IF_ERROR(output->Prepare(header, file_bytes));
  return output;
}

absl::Status GgufOutput::Prepare(std::span<const std::byte> header, uint64_t file_bytes) {
  struct statvfs disk;
  if (fstatvfs(fd_, &disk) != 0) return Failed("ask for the free space of its disk", errno);
  const uint64_t free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (file_bytes > free_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(path_, ": needs ", file_bytes, " bytes, the disk has ", free_bytes,
                                                     " free; make room, or write to another disk"));
  }
  if (ftruncate(fd_, static_cast<off_t>(file_bytes)) != 0) return Failed("give it its size", errno);
  return WriteAt(0, header);
}

GgufOutput::~GgufOutput() {
  if (fd_ >= 0) close(fd_);
  if (!named_) unlink(temporary_.c_str());
}

absl::Status GgufOutput::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("write", errno);
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status GgufOutput::Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  if (tensor >= tensors_.size() || bytes.size() > tensors_[tensor].bytes ||
      offset > tensors_[tensor].bytes - bytes.size()) {
    return absl::OutOfRangeError(
        absl::StrCat(path_, ": ", bytes.size(), " bytes at byte ", offset, " are not in tensor ", tensor));
  }
  return WriteAt(tensors_[tensor].offset + offset, bytes);
}

absl::Status GgufOutput::Finish() {
  // On the disk before the rename: after a crash the name must not point to an empty file.
  if (fsync(fd_) != 0) return Failed("sync", errno);
  if (close(std::exchange(fd_, -1)) != 0) return Failed("close", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return Failed("rename to its final name", errno);
  named_ = true;
  return absl::OkStatus();
}

}  // namespace tandem::engine
