// Where kernel_table.cc finds the kernel sets of the architecture that is compiled for; one file each.
#pragma once

#include <cstddef>

#include "engine/cpu/kernel_table.h"

namespace tandem::engine {

using MatMuls = decltype(KernelTable::matmul);

constexpr KernelTable::MatMul& At(MatMuls& matmuls, TensorType type) { return matmuls[static_cast<size_t>(type)]; }

// Null for kScalar and for sets of other architectures. Lives forever; thread-safe.
const KernelTable* NativeKernels(Isa isa);

}  // namespace tandem::engine
