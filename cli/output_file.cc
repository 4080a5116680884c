#include "cli/output_file.h"

#include "absl/strings/str_cat.h"

namespace tandem::cli {

absl::Status OutputFile::Open(const std::string& path) {
  path_ = path;
  if (path.empty()) return absl::OkStatus();
  stream_.open(path, std::ios::binary);
  return stream_ ? absl::OkStatus() : absl::NotFoundError(absl::StrCat("cannot write ", path));
}

absl::Status OutputFile::Write(const std::string& text) {
  if (path_.empty()) return absl::OkStatus();
  stream_ << text;
  stream_.close();
  return stream_ ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write all of ", path_));
}

}  // namespace tandem::cli
