// Weight matrices as the kernels read them: 16 rows side by side, so that vector lanes are rows.
//
// Rows are taken in groups of kRowGroup = 16 (the last group is padded with zero rows). Within a group, the K axis is
// cut into the format's blocks, and the block of each row into words: half floats (and the exponent byte of MXFP4) one
// a word, all else 4 bytes a word. The packed block holds word 0 of the 16 rows, then word 1 of the 16 rows, and so on
// in the order of the file, which engine/quant describes for each format. It is as large as the 16 blocks of the file.
//
// Quants of 4 consecutive elements ("a unit") that a format keeps in adjacent bytes are so the operand of the 4-way
// int8 dot product instructions: Q8_0 is f16 d[16 rows] | 8 vectors int8[16 rows][4]; the nibbles of Q4_K are vectors
// u8[16 rows][4] with one unit in the low halves and one in the high.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/cpu/kernels/kernel_args.h"
#include "engine/cpu/thread_pool.h"
#include "engine/cpu/weight_memory.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Bytes of one group of 16 rows of `cols` elements in packed form; 0 if `type` has no packed form or cols is no
// multiple of its block.
uint64_t PackedGroupBytes(TensorType type, uint64_t cols);
// Bytes of the packed matrix, for memory planning before anything is loaded. Errors: kInvalidArgument as for
// PackMatrix.
absl::StatusOr<uint64_t> PackedMatrixBytes(TensorType type, uint64_t rows, uint64_t cols);

// Where a matrix comes from: its rows in file format, one after the other.
struct RowReader {
  // Fills `out` with the bytes from `offset` on.
  std::function<absl::Status(uint64_t offset, std::span<std::byte> out)> read;
  // True: any range at any time, by several threads at once. False: by one thread at a time (not always the same), from
  // the first byte to the last.
  bool concurrent = false;
};

// An immutable packed matrix [rows, cols]. Copies share its memory (64-byte aligned), which goes with the last of them.
// Thread-safe.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Reads the rows and lays them out in a piece of `memory`, a few groups at a time, so that besides the result a
  // thread holds some 100 KB. Thread i of `pool` reads and writes the groups that ParallelFor(groups(), 1) gives it:
  // memory comes from the NUMA node of the thread that touches it first, and a product of this matrix alone splits its
  // rows in the same way (one range over several matrices, as of Q, K and V, coincides in part).
  // Errors: kInvalidArgument (type without kernels, cols no multiple of the block), kResourceExhausted (no memory),
  // those of `reader`.
  static absl::StatusOr<PackedMatrix> Pack(TensorType type, uint64_t rows, uint64_t cols, const RowReader& reader,
                                           ThreadPool& pool, WeightMemory& memory);
  // The same of rows in memory, in a block of its own. Errors: kInvalidArgument also if the size of `src` is wrong.
  static absl::StatusOr<PackedMatrix> Pack(TensorType type, uint64_t rows, uint64_t cols,
                                           std::span<const std::byte> src, ThreadPool& pool);

  TensorType type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t groups() const { return (rows_ + kRowGroup - 1) / kRowGroup; }
  uint64_t group_bytes() const { return group_bytes_; }
  uint64_t bytes() const { return group_bytes_ * groups(); }
  const std::byte* group(int64_t g) const { return data_.get() + g * group_bytes_; }
  bool empty() const { return data_ == nullptr; }
  // Writes row `row`, which must be one of rows(), as floats to out[cols].
  void ReadRow(int64_t row, float* out) const;
  // What the kernels take; valid while this matrix lives.
  PackedView view() const { return {data_.get(), rows_, cols_, group_bytes_}; }

 private:
  absl::Status PackGroups(const RowReader& reader, int64_t begin, int64_t end, const std::atomic<bool>& failed);

  TensorType type_ = TensorType::kF32;
  int64_t rows_ = 0, cols_ = 0;
  uint64_t group_bytes_ = 0;
  std::shared_ptr<std::byte[]> data_;
};

}  // namespace tandem::engine
