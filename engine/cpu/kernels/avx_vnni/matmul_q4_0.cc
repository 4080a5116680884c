#include "engine/cpu/kernels/avx2/matmul_q4_0.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx_vnni {

void MatMulQ4_0(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ4_0>(args);
  RunGroups<MatMulQ4_0Kernel<VnniDot>, 1, 4>(args);
}

}  // namespace tandem::engine::avx_vnni
