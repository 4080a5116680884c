// Writes a model file again with other formats of its tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/conversion/file_type.h"
#include "engine/conversion/importance_matrix.h"
#include "engine/conversion/piece_runner.h"
#include "engine/cpu/thread_pool.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {

struct QuantizeOptions {
  const FileType* type = nullptr;
  std::optional<TensorType> embedding, head;     // instead of what the file type says
  const ImportanceMatrix* importance = nullptr;  // may be null
  bool allow_requantize = false;                 // of tensors that have lost precision already
};

struct TensorChange {
  TensorType from = TensorType::kF32, to = TensorType::kF32;
  bool fell_back = false;         // its rows do not fit the format that the file type says
  bool requantized = false;       // from a quantised format into another
  bool lacks_importance = false;  // there is a matrix, but not of this tensor
};

// What becomes of each tensor of `file`, in order. Errors: kInvalidArgument (a format with rows that do not fit),
// kUnimplemented (a format that Tandem does not quantise to; names it), kFailedPrecondition (a quantised tensor without
// allow_requantize; a file type that needs an importance matrix, without one).
absl::StatusOr<std::vector<TensorChange>> PlanQuantization(const GgufFile& file, const QuantizeOptions& options);

// Writes `file`, changed by `plan`, to `path`: all metadata is kept but for general.file_type and
// general.quantization_version, and for what says that the file is in parts. Errors: kInvalidArgument (an importance
// matrix of other columns), kCancelled, those of GgufFile::Read and GgufOutput.
absl::Status QuantizeModel(const GgufFile& file, const QuantizeOptions& options, const std::vector<TensorChange>& plan,
                           const std::string& path, ThreadPool& pool, const PieceProgress& progress,
                           const std::function<bool()>& cancelled);

}  // namespace tandem::engine
