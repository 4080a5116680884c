#include "engine/cpu/kernels/avx2/matmul_q4_q5_k.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx_vnni {

void MatMulQ4_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ4_K>(args);
  RunGroups<MatMulQ4_Q5_K<VnniDot, false>, 1, 4>(args);
}
void MatMulQ5_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ5_K>(args);
  RunGroups<MatMulQ4_Q5_K<VnniDot, true>, 1, 4>(args);
}

}  // namespace tandem::engine::avx_vnni
