#include "tests/support/temp_folder.h"

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

namespace tandem::testing {
namespace {

class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "tandem-test-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make the folder " + path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

const std::string& TempFolder() {
  static const Folder folder;
  return folder.path();
}

}  // namespace tandem::testing
