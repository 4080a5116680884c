#include "cli/file_type_flag.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::cli {

absl::StatusOr<const engine::FileType*> ParseFileType(absl::string_view flag, absl::string_view name) {
  const engine::FileType* type = engine::FindFileType(name);
  if (type != nullptr) return type;
  const std::string names =
      absl::StrJoin(engine::AllFileTypes(), ", ",
                    [](std::string* out, const engine::FileType& known) { absl::StrAppend(out, known.name); });
  return absl::OutOfRangeError(absl::StrCat(flag, ": no file type '", name, "'; there are ", names));
}

}  // namespace tandem::cli
