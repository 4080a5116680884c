#include "engine/gguf/input_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {
namespace {

// Read ahead of the parser in pieces of this size: the header of a file with a small vocabulary fits in one.
constexpr uint64_t kPrefixStep = uint64_t{1} << 20;

absl::Status SystemError(const std::string& path, absl::string_view action, int error) {
  const std::string message = absl::StrCat(path, ": cannot ", action, ": ", std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<InputFile>> InputFile::Open(const std::string& path) {
  // Without O_NONBLOCK, opening a named pipe would wait for its writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError(path, "open", errno);
  struct stat info;
  const int failure = fstat(fd, &info) == 0 ? 0 : errno;
  std::unique_ptr<InputFile> file(new InputFile(path, fd, failure == 0 ? static_cast<uint64_t>(info.st_size) : 0));
  if (failure != 0) return SystemError(path, "stat", failure);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", S_ISDIR(info.st_mode) ? "a directory" : "not a regular file", ", not a GGUF file"));
  }
  if (info.st_size == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  return file;
}

InputFile::~InputFile() { close(fd_); }

absl::Status InputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path_, absl::StrCat("read ", out.size(), " bytes at byte ", offset), errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, ", but had ", size_,
                                              " bytes when it was opened: it was changed while in use"));
    }
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FilePrefix>> FilePrefix::Create(const InputFile& file, uint64_t size) {
  size = std::min(size, file.size());
  void* memory =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, /*fd=*/-1, /*offset=*/0);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat(file.path(), ": no address space for a header of up to ", size, " bytes"));
  }
  return std::unique_ptr<FilePrefix>(new FilePrefix(file, static_cast<std::byte*>(memory), size));
}

FilePrefix::~FilePrefix() { munmap(bytes_, size_); }

bool FilePrefix::Fill(uint64_t end) {
  if (end <= filled_) return true;
  if (!status_.ok()) return false;
  const uint64_t upto = std::min(size_, (end + kPrefixStep - 1) / kPrefixStep * kPrefixStep);
  status_ = file_.ReadAt(filled_, {bytes_ + filled_, upto - filled_});
  if (status_.ok()) filled_ = upto;
  return status_.ok();
}

}  // namespace tandem::engine
