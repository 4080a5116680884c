// The kernels of engine/cpu/kernels/amx on tiles made of plain memory, so that machines without AMX test everything of
// them but the eight instructions. The rest of those kernels is AVX-512.
#pragma once

#include "engine/cpu/kernel_table.h"

namespace tandem::engine::testing {

// The product of a quantised type, for 16 tokens or more; null for other types.
KernelTable::MatMul EmulatedTileMatMul(TensorType type);

// What AMX would have refused since the last call, and a configuration that is still held.
int TakeTileFaults();

}  // namespace tandem::engine::testing
