#include "engine/cpu/kernels/amx/matmul_tiles.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::amx {
namespace {

// What multiplies fewer tokens than fill a tile.
template <TensorType kType>
constexpr auto kFewTokens = avx512::MatMulPlanes<kType>;
template <>
constexpr auto kFewTokens<TensorType::kQ4_0> = avx512::MatMulQ4_0;
template <>
constexpr auto kFewTokens<TensorType::kQ8_0> = avx512::MatMulQ8_0;
template <>
constexpr auto kFewTokens<TensorType::kQ4_K> = avx512::MatMulQ4_K;
template <>
constexpr auto kFewTokens<TensorType::kQ5_K> = avx512::MatMulQ5_K;
template <>
constexpr auto kFewTokens<TensorType::kQ6_K> = avx512::MatMulQ6_K;

}  // namespace

template <TensorType kType>
void MatMulTiles(const MatMulArgs& args) {
  if (args.rows < kTokens) return kFewTokens<kType>(args);
  MatMulOnTiles<kType>(args);
}

template void MatMulTiles<TensorType::kQ4_0>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ4_1>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ5_0>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ5_1>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ8_0>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ2_K>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ3_K>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ4_K>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ5_K>(const MatMulArgs&);
template void MatMulTiles<TensorType::kQ6_K>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ4_NL>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ4_XS>(const MatMulArgs&);
template void MatMulTiles<TensorType::kMXFP4>(const MatMulArgs&);
template void MatMulTiles<TensorType::kTQ1_0>(const MatMulArgs&);
template void MatMulTiles<TensorType::kTQ2_0>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ2_XXS>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ2_XS>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ2_S>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ3_XXS>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ3_S>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ1_S>(const MatMulArgs&);
template void MatMulTiles<TensorType::kIQ1_M>(const MatMulArgs&);

}  // namespace tandem::engine::amx
