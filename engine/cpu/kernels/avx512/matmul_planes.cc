#include "engine/cpu/kernels/avx512/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// The tokens of one call of a dot product: their activations from the planes' first element on.
struct Tokens {
  const int8_t* x;
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
};

// acc[r] of kRows tokens over one super-block.
template <typename F, int kRows>
inline void CloseSuperBlock(const Planes& planes, const Tokens& t, __m512 (&acc)[kRows]) {
  constexpr int kUnits = F::kSub / 4;
  __m512i sum[kRows] = {};
  for (int j = 0; j < kPlaneElements / F::kSub; ++j) {
    __m512i dot[kRows] = {};
#pragma GCC unroll 8
    for (int u = j * kUnits; u < (j + 1) * kUnits; ++u) {
      const __m512i w = Load512(planes.unit[u]);
      for (int r = 0; r < kRows; ++r) {
        dot[r] = _mm512_dpbusd_epi32(dot[r], w, _mm512_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u)));
      }
    }
    const __m512i scale = Load512(planes.scale[j]);
    for (int r = 0; r < kRows; ++r) sum[r] = _mm512_add_epi32(sum[r], _mm512_mullo_epi32(dot[r], scale));
  }
  __m512i mins[kRows] = {};
  if constexpr (F::kHasMins || F::kBias != 0) {
    constexpr int kPairs = kPlaneElements / F::kSub / 2;
    for (int r = 0; r < kRows; ++r) {
      int32_t sum_pairs[kPairs];
      PackPairs<F::kSub>(t.sum16 + r * t.sum_stride, sum_pairs);
      for (int i = 0; i < kPairs; ++i) {
        mins[r] = _mm512_dpwssd_epi32(mins[r], Load512(planes.min_pair[i]), _mm512_set1_epi32(sum_pairs[i]));
      }
    }
  }
  const __m512 d = _mm512_loadu_ps(planes.d[0]);
  for (int r = 0; r < kRows; ++r) {
    const __m512 xs = _mm512_set1_ps(t.scale[r * t.scale_stride]);
    const __m512i dots = F::kHasMins ? sum[r] : _mm512_sub_epi32(sum[r], mins[r]);
    acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dots), acc[r]);
    if constexpr (F::kHasMins) {
      const __m512 dmin = _mm512_loadu_ps(planes.dmin[0]);
      acc[r] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xs), _mm512_cvtepi32_ps(mins[r]), acc[r]);
    }
  }
}

// The same over `blocks` blocks of 32.
template <typename F, int kRows>
inline void CloseBlocks(const Planes& planes, int blocks, const Tokens& t, __m512 (&acc)[kRows]) {
  for (int b = 0; b < blocks; ++b) {
    int32_t sum32[kRows];
    __m512i dot[kRows];
    for (int r = 0; r < kRows; ++r) {
      const int32_t* sums = t.sum16 + r * t.sum_stride + 2 * b;
      sum32[r] = sums[0] + sums[1];
      dot[r] = _mm512_set1_epi32(-F::kBias * sum32[r]);  // what the bias adds too much
    }
#pragma GCC unroll 8
    for (int u = 8 * b; u < 8 * b + 8; ++u) {
      const __m512i w = Load512(planes.unit[u]);
      for (int r = 0; r < kRows; ++r) {
        dot[r] = _mm512_dpbusd_epi32(dot[r], w, _mm512_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u)));
      }
    }
    const __m512 d = _mm512_loadu_ps(planes.d[b]);
    for (int r = 0; r < kRows; ++r) {
      const __m512 xs = _mm512_set1_ps(t.scale[r * t.scale_stride + b]);
      acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dot[r]), acc[r]);
      if constexpr (F::kHasMins) {
        const __m512 dmin = _mm512_mul_ps(_mm512_loadu_ps(planes.dmin[b]), xs);
        acc[r] = _mm512_fnmadd_ps(dmin, _mm512_set1_ps(static_cast<float>(sum32[r])), acc[r]);
      }
    }
  }
}

// Takes the accumulators of tokens row .. row + kRows - 1 from the output, and puts them back.
template <typename F, int kRows>
inline void CloseRows(const MatMulArgs& args, const Planes& planes, int64_t group, int64_t first_block, int blocks,
                      int row) {
  const int64_t cols = args.weights.cols;
  const int64_t column = first_block * F::kBlock;
  const int64_t first = group * kRowGroup;
  const int64_t count = args.weights.rows - first;
  const __mmask16 mask = LaneMask(count < kRowGroup ? count : kRowGroup);
  const Tokens tokens = {args.x.q + row * cols + column,
                         args.x.sum16 + (row * cols + column) / 16,
                         args.x.scale + row * (cols / F::kBlock) + first_block,
                         cols,
                         cols / 16,
                         cols / F::kBlock};
  float* out = args.out + row * args.out_stride + first;
  __m512 acc[kRows];
  for (int r = 0; r < kRows; ++r) {
    acc[r] = first_block == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out + r * args.out_stride);
  }
  if constexpr (F::kBlock == kPlaneElements) {
    CloseSuperBlock<F, kRows>(planes, tokens, acc);
  } else {
    CloseBlocks<F, kRows>(planes, blocks, tokens, acc);
  }
  for (int r = 0; r < kRows; ++r) _mm512_mask_storeu_ps(out + r * args.out_stride, mask, acc[r]);
}

}  // namespace

template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args) {
  using F = Expander<kType>;
  constexpr int kBlocksAtOnce = kPlaneElements / F::kBlock;
  constexpr int kUnitsPerBlock = F::kBlock / 4;
  const int64_t blocks = args.weights.cols / F::kBlock;
  Planes planes;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    const std::byte* packed = args.weights.data + g * args.weights.group_bytes;
    for (int64_t b = 0; b < blocks; b += kBlocksAtOnce) {
      const int count = static_cast<int>(blocks - b < kBlocksAtOnce ? blocks - b : kBlocksAtOnce);
      for (int i = 0; i < count; ++i, packed += kRowGroup * F::kBytes) {
        if constexpr (F::kBlock == kPlaneElements) PrefetchAfter<kRowGroup * F::kBytes>(packed);
        F::template Expand<Words>(packed, PlaneWriter<Words, F::kBias>(&planes, i, i * kUnitsPerBlock));
      }
      if constexpr (F::kBlock == kPlaneElements) FinishScales<Words, F, F::kBias>(&planes);
      int row = 0;
      for (; row + 4 <= args.rows; row += 4) CloseRows<F, 4>(args, planes, g, b, count, row);
      for (; row < args.rows; ++row) CloseRows<F, 1>(args, planes, g, b, count, row);
    }
  }
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

}  // namespace tandem::engine::avx512
