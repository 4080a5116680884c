#include "engine/conversion/piece_runner.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace tandem::engine {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{2} << 20;
// Pieces of each thread between two looks at `cancelled`: tens of milliseconds of work.
constexpr size_t kPiecesPerThread = 4;

std::vector<Piece> Cut(std::span<const PieceShape> tensors) {
  std::vector<Piece> pieces;
  for (size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    const uint64_t rows = std::max<uint64_t>(1, kPieceBytes / std::max<uint64_t>(1, tensors[tensor].row_bytes));
    for (uint64_t first = 0; first < tensors[tensor].rows; first += rows) {
      pieces.push_back({.tensor = tensor, .first_row = first, .rows = std::min(rows, tensors[tensor].rows - first)});
    }
  }
  return pieces;
}

}  // namespace

absl::Status ForEachPiece(std::span<const PieceShape> tensors, ThreadPool& pool, const PieceProgress& progress,
                          const std::function<bool()>& cancelled,
                          absl::FunctionRef<absl::Status(const Piece& piece, int part)> work) {
  const std::vector<Piece> pieces = Cut(tensors);
  uint64_t total = 0, done = 0;
  for (const PieceShape& tensor : tensors) total += tensor.rows * tensor.row_bytes;
  const size_t batch = kPiecesPerThread * pool.size();
  std::vector<absl::Status> statuses(batch);
  for (size_t begin = 0; begin < pieces.size(); begin += batch) {
    if (cancelled && cancelled()) return absl::CancelledError("interrupted");
    const size_t count = std::min(batch, pieces.size() - begin);
    std::atomic<size_t> next = 0;
    pool.Run([&](int part) {
      for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
        statuses[i] = work(pieces[begin + i], part);
      }
    });
    for (size_t i = 0; i < count; ++i) {
      if (!statuses[i].ok()) return statuses[i];
      const Piece& piece = pieces[begin + i];
      done += piece.rows * tensors[piece.tensor].row_bytes;
    }
    if (progress) progress(done, total);
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
