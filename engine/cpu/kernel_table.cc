#include "engine/cpu/kernel_table.h"

#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine {
namespace {

constexpr KernelTable kScalarTable = {
    .isa = Isa::kScalar,
    .matmul_f32 = scalar::MatMulF32,
    .matmul_f16 = scalar::MatMulF16,
    .matmul_q8_0 = scalar::MatMulQ8_0,
    .matmul_q4_k = scalar::MatMulQ4_K,
    .matmul_q6_k = scalar::MatMulQ6_K,
    .quantize_block32 = scalar::QuantizeBlock32,
    .quantize_block256 = scalar::QuantizeBlock256,
    .rms_norm = scalar::RmsNorm,
    .rope_pairs = scalar::RopePairs,
    .silu_mul = scalar::SiluMul,
    .add = scalar::Add,
    .attention = scalar::Attention,
    .f32_to_f16 = scalar::F32ToF16,
};

constexpr KernelTable kAvx2Table = {
    .isa = Isa::kAvx2,
    .matmul_f32 = avx2::MatMulF32,
    .matmul_f16 = avx2::MatMulF16,
    .matmul_q8_0 = avx2::MatMulQ8_0,
    .matmul_q4_k = avx2::MatMulQ4_K,
    .matmul_q6_k = avx2::MatMulQ6_K,
    .quantize_block32 = avx2::QuantizeBlock32,
    .quantize_block256 = avx2::QuantizeBlock256,
    .rms_norm = avx2::RmsNorm,
    .rope_pairs = avx2::RopePairs,
    .silu_mul = avx2::SiluMul,
    .add = scalar::Add,  // the compiler's own vectors are as fast as memory
    .attention = avx2::Attention,
    .f32_to_f16 = avx2::F32ToF16,
};

constexpr KernelTable kAvx512Table = {
    .isa = Isa::kAvx512,
    .matmul_f32 = avx512::MatMulF32,
    .matmul_f16 = avx512::MatMulF16,
    .matmul_q8_0 = avx512::MatMulQ8_0,
    .matmul_q4_k = avx512::MatMulQ4_K,
    .matmul_q6_k = avx512::MatMulQ6_K,
    .quantize_block32 = avx512::QuantizeBlock32,
    .quantize_block256 = avx512::QuantizeBlock256,
    .rms_norm = avx512::RmsNorm,
    .rope_pairs = avx2::RopePairs,  // a few cache lines a token
    .silu_mul = avx512::SiluMul,
    .add = scalar::Add,
    .attention = avx512::Attention,
    .f32_to_f16 = avx2::F32ToF16,
};

}  // namespace

KernelTable::MatMul KernelTable::MatMulFor(TensorType type) const {
  switch (type) {
    case TensorType::kF32:
      return matmul_f32;
    case TensorType::kF16:
      return matmul_f16;
    case TensorType::kQ8_0:
      return matmul_q8_0;
    case TensorType::kQ4_K:
      return matmul_q4_k;
    case TensorType::kQ6_K:
      return matmul_q6_k;
    default:
      return nullptr;
  }
}

ActivationKind ActivationKindFor(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return ActivationKind::kInt8Block32;
    case TensorType::kQ4_K:
    case TensorType::kQ6_K:
      return ActivationKind::kInt8Block256;
    default:
      return ActivationKind::kF32;
  }
}

bool HasKernels(TensorType type) { return kScalarTable.MatMulFor(type) != nullptr; }

const KernelTable& KernelsFor(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return kScalarTable;
    case Isa::kAvx2:
      return kAvx2Table;
    case Isa::kAvx512:
      return kAvx512Table;
  }
  return kScalarTable;
}

}  // namespace tandem::engine
