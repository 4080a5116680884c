#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/native_kernels.h"

namespace tandem::engine {
namespace {

using enum TensorType;

constexpr MatMuls Avx2MatMuls() {
  MatMuls matmuls = {};
  At(matmuls, kF32) = avx2::MatMulF32;
  At(matmuls, kF16) = avx2::MatMulF16;
  At(matmuls, kBF16) = avx2::MatMulBF16;
  At(matmuls, kQ4_0) = avx2::MatMulQ4_0;
  At(matmuls, kQ8_0) = avx2::MatMulQ8_0;
  At(matmuls, kQ4_K) = avx2::MatMulQ4_K;
  At(matmuls, kQ5_K) = avx2::MatMulQ5_K;
  At(matmuls, kQ6_K) = avx2::MatMulQ6_K;
  SetPlanes([&]<TensorType... kTypes>() { ((At(matmuls, kTypes) = avx2::MatMulPlanes<kTypes>), ...); });
  return matmuls;
}

constexpr MatMuls Avx512MatMuls() {
  MatMuls matmuls = {};
  At(matmuls, kF32) = avx512::MatMulF32;
  At(matmuls, kF16) = avx512::MatMulF16;
  At(matmuls, kBF16) = avx512::MatMulBF16;
  At(matmuls, kQ4_0) = avx512::MatMulQ4_0;
  At(matmuls, kQ8_0) = avx512::MatMulQ8_0;
  At(matmuls, kQ4_K) = avx512::MatMulQ4_K;
  At(matmuls, kQ5_K) = avx512::MatMulQ5_K;
  At(matmuls, kQ6_K) = avx512::MatMulQ6_K;
  SetPlanes([&]<TensorType... kTypes>() { ((At(matmuls, kTypes) = avx512::MatMulPlanes<kTypes>), ...); });
  return matmuls;
}

constexpr KernelTable kAvx2Table = {
    .isa = Isa::kAvx2,
    .matmul = Avx2MatMuls(),
    .quantize_block32 = avx2::QuantizeBlock32,
    .quantize_block256 = avx2::QuantizeBlock256,
    .rms_norm = avx2::RmsNorm,
    .rms_norm_quantize32 = avx2::RmsNormQuantize32,
    .rms_norm_quantize256 = avx2::RmsNormQuantize256,
    .layer_norm = avx2::LayerNorm,
    .rope_pairs = avx2::RopePairs,
    .rope_halves = avx2::RopeHalves,
    .silu_mul = avx2::SiluMul,
    .gelu_tanh_mul = avx2::GeluTanhMul,
    .gelu_erf_mul = scalar::GeluErfMul,  // in double precision; one old family of models uses it
    .clamped_swiglu = avx2::ClampedSwiglu,
    .add = scalar::Add,  // the compiler's own vectors are as fast as memory
    .add_scaled = avx2::AddScaled,
    .soft_cap = avx2::SoftCap,
    .attention = avx2::Attention,
    .f32_to_f16 = avx2::F32ToF16,
};

constexpr KernelTable AvxVnniTable() {
  KernelTable table = kAvx2Table;
  table.isa = Isa::kAvxVnni;
  At(table.matmul, kQ4_0) = avx_vnni::MatMulQ4_0;
  At(table.matmul, kQ8_0) = avx_vnni::MatMulQ8_0;
  At(table.matmul, kQ4_K) = avx_vnni::MatMulQ4_K;
  At(table.matmul, kQ5_K) = avx_vnni::MatMulQ5_K;
  At(table.matmul, kQ6_K) = avx_vnni::MatMulQ6_K;
  SetPlanes([&]<TensorType... kTypes>() { ((At(table.matmul, kTypes) = avx_vnni::MatMulPlanes<kTypes>), ...); });
  return table;
}

constexpr KernelTable kAvxVnniTable = AvxVnniTable();

constexpr KernelTable kAvx512Table = {
    .isa = Isa::kAvx512,
    .matmul = Avx512MatMuls(),
    .quantize_block32 = avx512::QuantizeBlock32,
    .quantize_block256 = avx512::QuantizeBlock256,
    .rms_norm = avx512::RmsNorm,
    .rms_norm_quantize32 = avx512::RmsNormQuantize32,
    .rms_norm_quantize256 = avx512::RmsNormQuantize256,
    .layer_norm = avx2::LayerNorm,
    .rope_pairs = avx2::RopePairs,  // a few cache lines a token
    .rope_halves = avx2::RopeHalves,
    .silu_mul = avx512::SiluMul,
    .gelu_tanh_mul = avx2::GeluTanhMul,
    .gelu_erf_mul = scalar::GeluErfMul,
    .clamped_swiglu = avx2::ClampedSwiglu,
    .add = scalar::Add,
    .add_scaled = avx2::AddScaled,
    .soft_cap = avx2::SoftCap,
    .attention = avx512::Attention,
    .f32_to_f16 = avx2::F32ToF16,
};

constexpr KernelTable AmxTable() {
  KernelTable table = kAvx512Table;
  table.isa = Isa::kAmx;
  SetPlanes([&]<TensorType... kTypes>() { ((At(table.matmul, kTypes) = amx::MatMulTiles<kTypes>), ...); });
  At(table.matmul, kQ4_0) = amx::MatMulTiles<kQ4_0>;
  At(table.matmul, kQ8_0) = amx::MatMulTiles<kQ8_0>;
  At(table.matmul, kQ4_K) = amx::MatMulTiles<kQ4_K>;
  At(table.matmul, kQ5_K) = amx::MatMulTiles<kQ5_K>;
  At(table.matmul, kQ6_K) = amx::MatMulTiles<kQ6_K>;
  return table;
}

constexpr KernelTable kAmxTable = AmxTable();

}  // namespace

const KernelTable* NativeKernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return &kAvx2Table;
    case Isa::kAvxVnni:
      return &kAvxVnniTable;
    case Isa::kAvx512:
      return &kAvx512Table;
    case Isa::kAmx:
      return &kAmxTable;
    default:
      return nullptr;
  }
}

}  // namespace tandem::engine
