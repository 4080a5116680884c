// Matrix products of a stage: brings activations into the form that each weight type takes, and picks the kernel.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/model/scratch.h"

namespace tandem::engine {

// Forms in which the matmuls of one input want it: a small set of ActivationKind.
class InputForms {
 public:
  InputForms(std::initializer_list<const PackedMatrix*> consumers) {
    for (const PackedMatrix* matrix : consumers) Add(*matrix);
  }
  explicit InputForms(const std::vector<PackedMatrix>& consumers) {
    for (const PackedMatrix& matrix : consumers) Add(matrix);
  }
  // An empty matrix wants nothing.
  void Add(const PackedMatrix& matrix) {
    if (!matrix.empty()) bits_ |= Bit(ActivationKindFor(matrix.type()));
  }
  void Add(const InputForms& other) { bits_ |= other.bits_; }
  void Add(ActivationKind kind) { bits_ |= Bit(kind); }
  bool Has(ActivationKind kind) const { return (bits_ & Bit(kind)) != 0; }
  // Whether `kind` is all that is wanted.
  bool Is(ActivationKind kind) const { return bits_ == Bit(kind); }

 private:
  static uint32_t Bit(ActivationKind kind) { return 1u << static_cast<int>(kind); }
  uint32_t bits_ = 0;
};

// False if any of the `count` values is infinite or not a number.
bool AllFinite(const float* values, int64_t count);

// Borrows the kernels and the int8 buffers of the scratch memory, which hold one input at a time. Threading: parts of
// one input may be prepared, and then multiplied, by several threads at once.
class Linear {
 public:
  Linear(const KernelTable& kernels, const Scratch& scratch) : kernels_(kernels), scratch_(scratch) {}

  // Prepares row `row` of an input of `cols` columns, whose values are at `x`. False, and nothing prepared, if the row
  // has a value that is not finite.
  bool PrepareRow(const InputForms& forms, const float* x, int64_t row, int64_t cols) const;
  // The same for the RMS norm of `x` in one pass, for forms that are one int8 kind: the norm's floats go nowhere.
  // False, and nothing of use prepared, if one of them is not finite.
  bool PrepareNormedRow(const InputForms& forms, const float* weight, float eps, const float* x, int64_t row,
                        int64_t cols) const;

  // The products of the prepared rows [first_row, first_row + rows) of `input` with row groups [group_begin, group_end)
  // of `weights`. The first row's go to output[0, weights.rows()), the next one's `stride` elements further.
  void Multiply(const PackedMatrix& weights, const float* input, int64_t first_row, int64_t rows, int64_t group_begin,
                int64_t group_end, float* output, int64_t stride) const;

 private:
  // Where row `row` of an input of `cols` columns lies, of an int8 kind.
  Int8Rows RowAt(ActivationKind kind, int64_t row, int64_t cols) const;

  const KernelTable& kernels_;
  const Scratch& scratch_;
};

}  // namespace tandem::engine
