#include "engine/cpu/native_kernels.h"

namespace tandem::engine {

const KernelTable* NativeKernels(Isa) { return nullptr; }

}  // namespace tandem::engine
