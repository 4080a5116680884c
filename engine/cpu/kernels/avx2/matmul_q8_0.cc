#include "engine/cpu/kernels/avx2/matmul_q8_0.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {

void MatMulQ8_0(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ8_0>(args);
  RunGroups<MatMulQ8_0Kernel<PairDot>, 1, 4>(args);
}

}  // namespace tandem::engine::avx2
