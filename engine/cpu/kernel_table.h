// The kernels of one stage, one entry an operation, filled once for an ISA. Canonical arithmetic
// (docs/ARCHITECTURE.md): the scalar entries are the specification; every other set returns the same bits for every
// input whose results are not NaN, odd sizes and tails included. Argument structs: engine/cpu/kernels/kernel_args.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/cpu_features.h"
#include "engine/cpu/kernels/kernel_args.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// How a matmul takes its activations. F32 for F32, F16 and BF16 weights; int8 with one scale a block and sums per 16
// for the quantised formats, of 32 or 256 elements as their own blocks.
enum class ActivationKind { kF32, kInt8Block32, kInt8Block256 };

struct KernelTable {
  Isa isa;

  using MatMul = void (*)(const MatMulArgs&);
  std::array<MatMul, kTensorTypeCodes> matmul;  // by type code; null for a type without kernels

  // One row to int8: scale = max|x| / 127 (one float division), q = round half to even of x * (127 / max|x|) clamped to
  // +-127; a block with max|x| < 2^-119 has scale 0 and q 0. Writes cols values, cols / block scales, cols / 16 sums.
  // NaN becomes 127, so that a broken model gives garbage, not undefined behaviour.
  void (*quantize_block32)(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
  void (*quantize_block256)(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);

  // out = (x * (1 / sqrt(mean(x^2) + eps))) * weight; the mean is sum / n, the sum by 16 strided partial sums (element
  // i to partial i % 16 by fma), folded 8, 4, 2, 1. out may be x.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // rms_norm and then quantize_block32 or 256 of its result, whose floats go nowhere: one pass over a row that stays in
  // the first level of cache. n is a multiple of the block. False if a value of the norm is infinite or NaN; then what
  // was written is of no use.
  using NormQuantize = bool (*)(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                                int32_t* sum16);
  NormQuantize rms_norm_quantize32;
  NormQuantize rms_norm_quantize256;
  // out = ((x - mean) * (1 / sqrt(variance + eps))) * weight, then + bias unless it is null; mean and variance, the
  // mean of (x - mean)^2, by 16 strided partial sums as above (those of the mean by plain additions). out may be x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
  // Rotates the pairs (a, b) of the first rope_dims of each head, which begins `stride` elements after the one before,
  // to (fma(a, cos, -(b * sin)), fma(b, cos, a * sin)). cos, sin are [rope_dims / 2]. Pair i is (x[2i], x[2i + 1]) in
  // rope_pairs and (x[i], x[i + rope_dims / 2]) in rope_halves.
  using Rope = void (*)(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
  Rope rope_pairs;
  Rope rope_halves;
  // out = f(gate) * up; out may be gate. The two gelu take up = null for ones. exp is CanonicalExp.
  //   silu(x) = x / (1 + exp(-x))
  //   gelu_tanh(x) = half(h / (1 + exp(-(h * fma(h * h, cubic, linear))))), h = half(x); 0 for x <= -10, x for x >= 10
  //   gelu_erf(x) = x / 2 erfc(-x / sqrt(2)) in double precision
  // clamped_swiglu: g = min(gate, 7), u = up within +-7, out = g / (1 + exp(-(1.702 g))) * (u + 1).
  using Activate = void (*)(const float* gate, const float* up, int64_t n, float* out);
  Activate silu_mul;
  Activate gelu_tanh_mul;
  Activate gelu_erf_mul;
  Activate clamped_swiglu;
  void (*add)(const float* y, int64_t n, float* x);                      // x += y
  void (*add_scaled)(const float* y, float scale, int64_t n, float* x);  // x = fma(scale, y, x)
  // x = cap - 2 cap / (1 + exp(x * (2 / cap))), which is cap * tanh(x / cap).
  void (*soft_cap)(float* x, int64_t n, float cap);
  void (*attention)(const AttentionArgs&);
  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);  // round to nearest even

  // The matmul of a weight type; null for a type without kernels.
  MatMul MatMulFor(TensorType type) const {
    const auto code = static_cast<size_t>(type);
    return code < matmul.size() ? matmul[code] : nullptr;
  }
};

// Activation kind of a weight type. Only for types with kernels (HasKernels).
ActivationKind ActivationKindFor(TensorType type);
bool HasKernels(TensorType type);

// The table of `isa`, which the caller got from DetectIsa or ParseIsa. Lives forever; thread-safe.
const KernelTable& KernelsFor(Isa isa);

}  // namespace tandem::engine
