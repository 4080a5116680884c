// Weight matrices as the kernels read them: 16 rows side by side, so that vector lanes are rows.
//
// Rows are taken in groups of kRowGroup = 16 (the last group is padded with zero rows). Within a group, the K axis is
// cut into the format's blocks; for one block the group holds, in this order ("x16" = one value for each of the 16
// rows, adjacent):
//
//   F32, F16   one element:  value x16 (4 or 2 bytes each)
//   Q8_0       32 elements:  f16 d x16 | 8 units of 4 elements: int8[16 rows][4]
//   Q4_K       256 elements: f16 d x16 | f16 dmin x16 | u8 scale[8 sub-blocks] x16 | u8 min[8] x16 |
//                            32 vectors u8[16 rows][4]: vector 8c+u has in its low nibbles elements 64c+4u.. and in its
//                            high nibbles 64c+32+4u..
//   Q6_K       256 elements: f16 d x16 | i8 scale[16 sub-blocks] x16 | 16 triples of vectors u8[16 rows][4]. Triple t:
//                            low nibbles of unit t (low) and t + 32 (high) | of t + 16 and t + 48 | top bit pairs of
//                            units t, t + 16, t + 32, t + 48 from the low bits up. Unit u = elements 4u..4u + 3.
//
// A unit's 4 elements of one row are adjacent bytes, the operand shape of the 4-way int8 dot product instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "engine/cpu/kernels/kernel_args.h"
#include "engine/cpu/thread_pool.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Bytes of one group of 16 rows of `cols` elements in packed form; 0 if `type` has no packed form or cols is no
// multiple of its block.
uint64_t PackedGroupBytes(TensorType type, uint64_t cols);
// Bytes of the packed matrix, for memory planning before anything is loaded. Errors: kInvalidArgument as for
// PackMatrix.
absl::StatusOr<uint64_t> PackedMatrixBytes(TensorType type, uint64_t rows, uint64_t cols);

// An immutable packed matrix [rows, cols]. Owns its memory (64-byte aligned). Thread-safe.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Lays out `src` (rows in file format, one after the other). Errors: kInvalidArgument (type without kernels, cols no
  // multiple of the block, size of `src` wrong), kResourceExhausted (no memory).
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
  // What the kernels take; valid while this matrix lives.
  PackedView view() const { return {data_.get(), rows_, cols_, group_bytes_}; }

 private:
  struct FreeAligned {
    void operator()(std::byte* p) const;
  };
  TensorType type_ = TensorType::kF32;
  int64_t rows_ = 0, cols_ = 0;
  uint64_t group_bytes_ = 0;
  std::unique_ptr<std::byte[], FreeAligned> data_;
};

}  // namespace tandem::engine
