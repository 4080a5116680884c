// Where kernel_table.cc finds the kernel sets of the architecture that is compiled for; one file each.
#pragma once

#include <cstddef>

#include "engine/cpu/kernel_table.h"

namespace tandem::engine {

using MatMuls = decltype(KernelTable::matmul);

constexpr KernelTable::MatMul& At(MatMuls& matmuls, TensorType type) { return matmuls[static_cast<size_t>(type)]; }

// The formats that go through planes (kernels/planes.h) in every set, for which `set` names the kernels.
template <typename Set>
constexpr void SetPlanes(Set set) {
  using enum TensorType;
  set.template operator()<kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kIQ4_NL, kIQ4_XS, kMXFP4, kTQ1_0, kTQ2_0, kIQ2_XXS,
                          kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ1_S, kIQ1_M>();
}

// Null for kScalar and for sets of other architectures. Lives forever; thread-safe.
const KernelTable* NativeKernels(Isa isa);

}  // namespace tandem::engine
