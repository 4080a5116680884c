// What the fuzzer and the unit tests do with an importance matrix. Any crash or broken promise (abort) is a finding.
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/conversion/importance_matrix.h"

namespace tandem::engine {

// True if the bytes are a valid file.
bool FuzzImportanceMatrix(absl::string_view bytes) {
  const auto matrix = ImportanceMatrix::ParseOld(bytes);
  if (matrix.ok()) {
    if (matrix->size() == 0 || matrix->size() > bytes.size()) std::abort();
    if (matrix->For("a.weight").size() > bytes.size() / sizeof(float)) std::abort();
    return true;
  }
  if (!absl::IsInvalidArgument(matrix.status())) std::abort();
  if (!absl::StartsWith(matrix.status().message(), "is no importance matrix")) std::abort();
  return false;
}

}  // namespace tandem::engine
