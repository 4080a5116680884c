#include "engine/cpu/kernels/avx2/matmul_q6_k.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx_vnni {

void MatMulQ6_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ6_K>(args);
  RunGroups<MatMulQ6_KKernel<VnniDot>, 1, 4>(args);
}

}  // namespace tandem::engine::avx_vnni
