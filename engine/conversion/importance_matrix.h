// How much an error in each column of a matrix matters: the mean square of the activations that meet it, collected over
// a text. Read from files that llama.cpp's imatrix tool writes; its source is where the formats come from.
//
// GGUF (general.type "imatrix"): for each matrix "NAME" float32 tensors "NAME.in_sum2" [experts, columns], sums of
//   squares, and "NAME.counts" [experts], how many vectors were summed.
// Older (.dat), little-endian: i32 entries { i32 length, name | i32 calls | i32 values | float32 values[] }, then
//   remarks. A mixture's values are those of one expert after the other. The values grow with `calls`.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Immutable, hence thread-safe.
class ImportanceMatrix {
 public:
  // Reads either format. Errors: those of GgufFile::Open; kInvalidArgument (another or a damaged file; names the
  // entry).
  static absl::StatusOr<ImportanceMatrix> Load(const std::string& path);
  // The older format, in memory. Errors: kInvalidArgument.
  static absl::StatusOr<ImportanceMatrix> ParseOld(absl::string_view bytes);

  // Of the matrix `tensor`: [experts, columns] or [columns]; empty if the file does not have it. Only ratios within a
  // row matter.
  std::span<const float> For(absl::string_view tensor) const;
  size_t size() const { return values_.size(); }  // matrices

 private:
  static absl::StatusOr<ImportanceMatrix> LoadGguf(const std::string& path);

  absl::flat_hash_map<std::string, std::vector<float>> values_;
};

}  // namespace tandem::engine
