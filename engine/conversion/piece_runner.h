// Work on all tensors of a file by several threads, in pieces of some megabytes: what making a model file is.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/cpu/thread_pool.h"

namespace tandem::engine {

// A matrix [rows, cols] as far as cutting it into pieces goes.
struct PieceShape {
  uint64_t rows = 0;
  uint64_t row_bytes = 0;  // of the result
};

struct Piece {
  size_t tensor = 0;
  uint64_t first_row = 0, rows = 0;
};

// Called on the calling thread, now and then, with bytes of results.
using PieceProgress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

// Calls `work(piece, part)` for pieces that cover all rows of all tensors, at the same time on the pool's threads (part
// is the thread's number). The cut does not depend on the number of threads. Ends early, with the first error in the
// order of the pieces among those that ran, or with kCancelled when `cancelled` (may be null) gives true.
absl::Status ForEachPiece(std::span<const PieceShape> tensors, ThreadPool& pool, const PieceProgress& progress,
                          const std::function<bool()>& cancelled,
                          absl::FunctionRef<absl::Status(const Piece& piece, int part)> work);

}  // namespace tandem::engine
