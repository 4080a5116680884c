#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/native_kernels.h"

namespace tandem::engine {
namespace {

using enum TensorType;

constexpr MatMuls NeonMatMuls() {
  MatMuls matmuls = {};
  At(matmuls, kF32) = neon::MatMulF32;
  At(matmuls, kF16) = neon::MatMulF16;
  At(matmuls, kBF16) = neon::MatMulBF16;
  At(matmuls, kQ4_0) = neon::MatMulQ4_0;
  At(matmuls, kQ8_0) = neon::MatMulQ8_0;
  At(matmuls, kQ4_K) = neon::MatMulQ4_K;
  At(matmuls, kQ5_K) = neon::MatMulQ5_K;
  At(matmuls, kQ6_K) = neon::MatMulQ6_K;
  SetPlanes([&]<TensorType... kTypes>() { ((At(matmuls, kTypes) = neon::MatMulPlanes<kTypes>), ...); });
  return matmuls;
}

constexpr MatMuls NeonI8mmMatMuls() {
  MatMuls matmuls = NeonMatMuls();
  At(matmuls, kQ4_0) = neon_i8mm::MatMulQ4_0;
  At(matmuls, kQ8_0) = neon_i8mm::MatMulQ8_0;
  At(matmuls, kQ4_K) = neon_i8mm::MatMulQ4_K;
  At(matmuls, kQ5_K) = neon_i8mm::MatMulQ5_K;
  At(matmuls, kQ6_K) = neon_i8mm::MatMulQ6_K;
  SetPlanes([&]<TensorType... kTypes>() { ((At(matmuls, kTypes) = neon_i8mm::MatMulPlanes<kTypes>), ...); });
  return matmuls;
}

constexpr KernelTable NeonTable(Isa isa, const MatMuls& matmuls) {
  return {
      .isa = isa,
      .matmul = matmuls,
      .quantize_block32 = neon::QuantizeBlock32,
      .quantize_block256 = neon::QuantizeBlock256,
      .rms_norm = neon::RmsNorm,
      .rms_norm_quantize32 = neon::RmsNormQuantize32,
      .rms_norm_quantize256 = neon::RmsNormQuantize256,
      .layer_norm = neon::LayerNorm,
      .rope_pairs = neon::RopePairs,
      .rope_halves = neon::RopeHalves,
      .silu_mul = neon::SiluMul,
      .gelu_tanh_mul = neon::GeluTanhMul,
      .gelu_erf_mul = scalar::GeluErfMul,  // in double precision; one old family of models uses it
      .clamped_swiglu = neon::ClampedSwiglu,
      .add = scalar::Add,  // the compiler's own vectors are as fast as memory
      .add_scaled = neon::AddScaled,
      .soft_cap = neon::SoftCap,
      .attention = neon::Attention,
      .f32_to_f16 = neon::F32ToF16,
  };
}

constexpr KernelTable kNeonTable = NeonTable(Isa::kNeon, NeonMatMuls());
constexpr KernelTable kNeonI8mmTable = NeonTable(Isa::kNeonI8mm, NeonI8mmMatMuls());

}  // namespace

const KernelTable* NativeKernels(Isa isa) {
  switch (isa) {
    case Isa::kNeon:
      return &kNeonTable;
    case Isa::kNeonI8mm:
      return &kNeonI8mmTable;
    default:
      return nullptr;
  }
}

}  // namespace tandem::engine
