// A file that is written when the work is done; opened before, so that nothing is lost for a wrong name.
#pragma once

#include <fstream>
#include <string>

#include "absl/status/status.h"

namespace tandem::cli {

class OutputFile {
 public:
  // Of an empty path nothing is written. Errors: kNotFound.
  absl::Status Open(const std::string& path);
  // All of it, once. Errors: kUnavailable.
  absl::Status Write(const std::string& text);
  bool wanted() const { return !path_.empty(); }

 private:
  std::string path_;
  std::ofstream stream_;
};

}  // namespace tandem::cli
