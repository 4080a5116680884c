#include "engine/cpu/kernel_table.h"

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/native_kernels.h"

namespace tandem::engine {
namespace {

using enum TensorType;
using MatMuls = decltype(KernelTable::matmul);

template <TensorType... kTypes>
constexpr void SetBlocks(MatMuls& matmuls) {
  ((At(matmuls, kTypes) = scalar::MatMulBlocks<kTypes>), ...);
}

constexpr MatMuls ScalarMatMuls() {
  MatMuls matmuls = {};
  At(matmuls, kF32) = scalar::MatMulF32;
  At(matmuls, kF16) = scalar::MatMulF16;
  At(matmuls, kBF16) = scalar::MatMulBF16;
  SetBlocks<kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4, kTQ1_0,
            kTQ2_0, kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ1_S, kIQ1_M>(matmuls);
  return matmuls;
}

constexpr KernelTable kScalarTable = {
    .isa = Isa::kScalar,
    .matmul = ScalarMatMuls(),
    .quantize_block32 = scalar::QuantizeBlock32,
    .quantize_block256 = scalar::QuantizeBlock256,
    .rms_norm = scalar::RmsNorm,
    .rms_norm_quantize32 = scalar::RmsNormQuantize32,
    .rms_norm_quantize256 = scalar::RmsNormQuantize256,
    .layer_norm = scalar::LayerNorm,
    .rope_pairs = scalar::RopePairs,
    .rope_halves = scalar::RopeHalves,
    .silu_mul = scalar::SiluMul,
    .gelu_tanh_mul = scalar::GeluTanhMul,
    .gelu_erf_mul = scalar::GeluErfMul,
    .clamped_swiglu = scalar::ClampedSwiglu,
    .add = scalar::Add,
    .add_scaled = scalar::AddScaled,
    .soft_cap = scalar::SoftCap,
    .attention = scalar::Attention,
    .f32_to_f16 = scalar::F32ToF16,
};

}  // namespace

ActivationKind ActivationKindFor(TensorType type) {
  const BlockFormat* format = FindBlockFormat(type);
  if (format == nullptr || format->block_elements == 1) return ActivationKind::kF32;
  return format->block_elements == 32 ? ActivationKind::kInt8Block32 : ActivationKind::kInt8Block256;
}

bool HasKernels(TensorType type) { return kScalarTable.MatMulFor(type) != nullptr; }

const KernelTable& KernelsFor(Isa isa) {
  const KernelTable* native = NativeKernels(isa);
  return native != nullptr ? *native : kScalarTable;
}

}  // namespace tandem::engine
