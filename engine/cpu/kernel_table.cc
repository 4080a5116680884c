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
    case Isa::kAvx2:
    case Isa::kAvx512:
      return kScalarTable;
  }
  return kScalarTable;
}

}  // namespace tandem::engine
