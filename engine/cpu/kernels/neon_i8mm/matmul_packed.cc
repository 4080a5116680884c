#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/packed_sources.h"
#include "engine/cpu/kernels/neon_i8mm/smmla.h"

namespace tandem::engine::neon_i8mm {

void MatMulQ4_0(const MatMulArgs& args) { RunGroups<MatMulPacked<SourceQ4_0, SmmlaSums>, 1, 4>(args); }
void MatMulQ8_0(const MatMulArgs& args) { RunGroups<MatMulPacked<SourceQ8_0, SmmlaSums>, 1, 4>(args); }
void MatMulQ4_K(const MatMulArgs& args) { RunGroups<MatMulPacked<SourceQ4_Q5_K<false>, SmmlaSums>, 1, 4>(args); }
void MatMulQ5_K(const MatMulArgs& args) { RunGroups<MatMulPacked<SourceQ4_Q5_K<true>, SmmlaSums>, 1, 4>(args); }
void MatMulQ6_K(const MatMulArgs& args) { RunGroups<MatMulPacked<SourceQ6_K, SmmlaSums>, 1, 4>(args); }

}  // namespace tandem::engine::neon_i8mm
