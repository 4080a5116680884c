// Matrix products of a stage: brings activations into the form that each weight type takes, and picks the kernel.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/model/scratch.h"

namespace tandem::engine {

// Forms in which the matmuls of one input want it: a small set of ActivationKind.
class InputForms {
 public:
  InputForms(std::initializer_list<const PackedMatrix*> consumers) {
    for (const PackedMatrix* matrix : consumers) bits_ |= Bit(ActivationKindFor(matrix->type()));
  }
  bool Has(ActivationKind kind) const { return (bits_ & Bit(kind)) != 0; }

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

  // Prepares row `row` of an input [rows, cols] that starts at `input`. False, and nothing prepared, if the row has a
  // value that is not finite.
  bool PrepareRow(const InputForms& forms, const float* input, int64_t row, int64_t cols) const;

  // output[r, 16 * group_begin ...] for the prepared rows [0, rows) of `input`; output is [rows, weights.rows()].
  void Multiply(const PackedMatrix& weights, const float* input, int64_t rows, int64_t group_begin, int64_t group_end,
                float* output) const;

 private:
  const KernelTable& kernels_;
  const Scratch& scratch_;
};

}  // namespace tandem::engine
