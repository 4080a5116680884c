#include "cli/token_ids.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::cli {

absl::StatusOr<std::vector<int32_t>> ParseTokenIds(absl::string_view text) {
  std::vector<int32_t> ids;
  for (absl::string_view entry : absl::StrSplit(text, absl::ByAnyChar(", \n\t"), absl::SkipEmpty())) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(entry, &id) || id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", entry, "' is no token id: expected numbers such as 1,403,407"));
    }
    ids.push_back(id);
  }
  if (ids.empty())
    return absl::InvalidArgumentError("the list of token ids is empty: expected numbers such as 1,403,407");
  return ids;
}

}  // namespace tandem::cli
