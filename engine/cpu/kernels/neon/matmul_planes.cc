#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/plane_source.h"

namespace tandem::engine::neon {

template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args) {
  MatMulByPlanes<Expander<kType>, SdotSums>(args);
}

template void MatMulPlanes<TensorType::kQ4_1>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ5_0>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ5_1>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ2_K>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ3_K>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ4_NL>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ4_XS>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kMXFP4>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kTQ1_0>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kTQ2_0>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ2_XXS>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ2_XS>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ2_S>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ3_XXS>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ3_S>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ1_S>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kIQ1_M>(const MatMulArgs&);

}  // namespace tandem::engine::neon
