// The kernels of one stage, one entry an operation, filled once for an ISA. Canonical arithmetic
// (docs/ARCHITECTURE.md): the scalar entries are the specification; every other set returns the same bits for every
// input, odd sizes and tails included.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/cpu/cpu_features.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// How a matmul takes its activations. F32 for F32 and F16 weights; int8 with one scale per 32 for Q8_0; int8 with one
// scale per 256 and sums per 16 for the K formats.
enum class ActivationKind { kF32, kInt8Block32, kInt8Block256 };

// Activations of `rows` tokens, row-major. Borrowed pointers; which are set depends on the kind.
struct Activations {
  const float* f32 = nullptr;      // [rows, cols]                kF32
  const int8_t* q = nullptr;       // [rows, cols]                both int8 kinds; values -127..127
  const float* scale = nullptr;    // [rows, cols / block]        both int8 kinds: x ~ q * scale, scale = max|x| / 127
  const int32_t* sum16 = nullptr;  // [rows, cols / 16]           int8 kinds: exact sum of each 16 consecutive q
};

// out[r, o] = sum over k of w[o, k] * x[r, k] for row groups [group_begin, group_end) of w, as one chain per output in
// ascending K:
//   F32, F16   acc = fma(float(w), x, acc) per element
//   Q8_0       acc = fma(d * scale, float(dot), acc) per 32, dot exact in int32
//   Q4_K       per 256: acc = fma(d * scale, float(sum_j sc_j dot_j), acc); acc = fma(-(dmin * scale), float(sum_j m_j
//   sum_j), acc) Q6_K       per 256: acc = fma(d * scale, float(sum_j sc_j dot_j), acc) with dot_j over 16 of (q - 32)
//   * x
// d * scale is one float product, rounded. acc starts at +0.
struct MatMulArgs {
  const PackedMatrix* weights;
  Activations x;
  int rows;            // tokens, >= 1
  float* out;          // [rows, out_stride]; only the first weights->rows() of a row are written
  int64_t out_stride;  // elements
  int64_t group_begin, group_end;
};

// One query head over the keys of one sequence. Page p of the sequence holds keys [p * page_tokens, (p + 1) *
// page_tokens). Canonical order: keys in tiles of 16 from position 0; scores s_j = scale * dot16(q, k_j); m' = max(m,
// max s); c = exp(m - m'); p_j = exp(s_j - m') (0 beyond num_keys); l = fma(l, c, fold16(p)); o_d = o_d * c, then o_d =
// fma(p_j, v_jd, o_d) for j ascending (keys beyond num_keys skipped); out_d = o_d / l. dot16 and fold16: 16 strided
// partial sums by fma, folded 8, 4, 2, 1.
struct AttentionArgs {
  const float* q;                   // [head_dim]
  const std::byte* const* k_pages;  // per page: [page_tokens, head_dim] of this layer and kv head
  const std::byte* const* v_pages;
  bool kv_f16;      // pages hold F16, else F32
  int page_tokens;  // a multiple of 16
  int num_keys;     // >= 1: keys 0..num_keys-1 are visible
  int head_dim;     // any multiple of 4
  float scale;
  float* out;  // [head_dim]
};

struct KernelTable {
  Isa isa;

  void (*matmul_f32)(const MatMulArgs&);
  void (*matmul_f16)(const MatMulArgs&);
  void (*matmul_q8_0)(const MatMulArgs&);
  void (*matmul_q4_k)(const MatMulArgs&);
  void (*matmul_q6_k)(const MatMulArgs&);

  // One row to int8: scale = max|x| / 127 (one float division), q = round half to even of x * (127 / max|x|) clamped to
  // +-127; an all-zero block has scale 0 and q 0. Writes cols values, cols / block scales, cols / 16 sums. NaN and
  // infinities are the caller's to exclude.
  void (*quantize_block32)(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
  void (*quantize_block256)(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);

  // out = x / sqrt(mean(x^2) + eps) * weight; the mean by 16 strided partial sums. out may be x.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // Rotates pairs (2i, 2i + 1) of the first rope_dims of each head: cos, sin are [rope_dims / 2].
  void (*rope_pairs)(float* x, int heads, int head_dim, int rope_dims, const float* cos, const float* sin);
  // out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). out may be gate.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*add)(const float* y, int64_t n, float* x);  // x += y
  void (*attention)(const AttentionArgs&);
  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);  // round to nearest even

  // The matmul of a weight type and the activations it takes; null for a type without kernels.
  using MatMul = void (*)(const MatMulArgs&);
  MatMul MatMulFor(TensorType type) const;
};

// Activation kind of a weight type. Only for types with kernels (HasKernels).
ActivationKind ActivationKindFor(TensorType type);
bool HasKernels(TensorType type);

// The table of `isa`, which the caller got from DetectIsa or ParseIsa. Lives forever; thread-safe.
const KernelTable& KernelsFor(Isa isa);

// exp of canonical arithmetic: a fixed polynomial, relative error below 2e-7, exp(-inf) = 0, saturating to 0 and
// infinity. Also used by sampling.
float CanonicalExp(float x);
// Likewise in double precision without FMA, for rope tables: relative error below 1e-14 in the ranges used (|x| <= 2^20
// for sin, cos).
double CanonicalPow(double base, double exponent);  // base > 0
double CanonicalSin(double x);
double CanonicalCos(double x);
double CanonicalLog(double x);  // x > 0

}  // namespace tandem::engine
