#include "engine/cpu/kernels/avx2/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// Fields up to 32 stay as they are: eight products of at most 32 * 127 fit an int16. Larger ones become signed bytes,
// whose products are summed as int32 at once.
template <typename F>
constexpr bool kNarrow = F::kTop <= 32;
template <typename F>
constexpr int kBiasOf = kNarrow<F> ? F::kBias : 0;

// The tokens of one call of a dot product: their activations from the planes' first element on.
struct Tokens {
  const int8_t* x;
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
};

// sum[r] += dot of units first .. first + 3 and x, for 8 rows of the group and kRows tokens; each pair of adjacent
// products multiplied by the pair in `scale`.
template <bool kNarrowFields, int kRows>
inline void AddFourUnits(const Planes& planes, int h, int first, const Tokens& t, __m256i scale,
                         __m256i (&sum)[kRows]) {
  __m256i products[kRows] = {};
#pragma GCC unroll 4
  for (int u = first; u < first + 4; ++u) {
    const __m256i w = Load256(planes.unit[u] + 32 * h);
    const __m256i magnitude = _mm256_abs_epi8(w);
    for (int r = 0; r < kRows; ++r) {
      const __m256i xu = _mm256_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u));
      if constexpr (kNarrowFields) {
        products[r] = _mm256_add_epi16(products[r], _mm256_maddubs_epi16(w, xu));
        KeepOrder(products[r]);
      } else {
        // |w| * (x with the sign of w): two products of at most 127 * 127.
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(xu, w));
        sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs, scale));
      }
    }
  }
  if constexpr (kNarrowFields) {
    for (int r = 0; r < kRows; ++r) sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(products[r], scale));
  }
}

// acc[r] of kRows tokens over one super-block.
template <typename F, int kRows>
inline void CloseSuperBlock(const Planes& planes, const Tokens& t, Float16Rows (&acc)[kRows]) {
  constexpr int kPairs = kPlaneElements / F::kSub / 2;
  constexpr bool kCorrects = F::kHasMins || kBiasOf<F> != 0;
  int32_t sum_pairs[kRows][kPairs];
  if constexpr (kCorrects) {
    for (int r = 0; r < kRows; ++r) PackPairs<F::kSub>(t.sum16 + r * t.sum_stride, sum_pairs[r]);
  }
  for (int h = 0; h < 2; ++h) {
    __m256i sum[kRows] = {};
    for (int u = 0; u < kPlaneElements / 4; u += 4) {
      AddFourUnits<kNarrow<F>, kRows>(planes, h, u, t, Load256(planes.scale[4 * u / F::kSub] + 8 * h), sum);
    }
    const __m256 d = _mm256_loadu_ps(planes.d[0] + 8 * h);
    for (int r = 0; r < kRows; ++r) {
      __m256i mins = _mm256_setzero_si256();
      if constexpr (kCorrects) {
        for (int i = 0; i < kPairs; ++i) {
          const __m256i pairs = _mm256_set1_epi32(sum_pairs[r][i]);
          mins = _mm256_add_epi32(mins, _mm256_madd_epi16(Load256(planes.min_pair[i] + 8 * h), pairs));
        }
      }
      const __m256 xs = _mm256_set1_ps(t.scale[r * t.scale_stride]);
      const __m256i dots = F::kHasMins ? sum[r] : _mm256_sub_epi32(sum[r], mins);
      __m256 a = _mm256_fmadd_ps(_mm256_mul_ps(d, xs), _mm256_cvtepi32_ps(dots), acc[r].half[h]);
      if constexpr (F::kHasMins) {
        const __m256 dmin = _mm256_loadu_ps(planes.dmin[0] + 8 * h);
        a = _mm256_fnmadd_ps(_mm256_mul_ps(dmin, xs), _mm256_cvtepi32_ps(mins), a);
      }
      acc[r].half[h] = a;
    }
  }
}

// The same over `blocks` blocks of 32.
template <typename F, int kRows>
inline void CloseBlocks(const Planes& planes, int blocks, const Tokens& t, Float16Rows (&acc)[kRows]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int b = 0; b < blocks; ++b) {
    for (int h = 0; h < 2; ++h) {
      int32_t sum32[kRows];
      __m256i dot[kRows];
      for (int r = 0; r < kRows; ++r) {
        const int32_t* sums = t.sum16 + r * t.sum_stride + 2 * b;
        sum32[r] = sums[0] + sums[1];
        dot[r] = _mm256_set1_epi32(-kBiasOf<F> * sum32[r]);  // what the bias adds too much
      }
      AddFourUnits<kNarrow<F>, kRows>(planes, h, 8 * b, t, ones, dot);
      AddFourUnits<kNarrow<F>, kRows>(planes, h, 8 * b + 4, t, ones, dot);
      const __m256 d = _mm256_loadu_ps(planes.d[b] + 8 * h);
      for (int r = 0; r < kRows; ++r) {
        const __m256 xs = _mm256_set1_ps(t.scale[r * t.scale_stride + b]);
        __m256 a = _mm256_fmadd_ps(_mm256_mul_ps(d, xs), _mm256_cvtepi32_ps(dot[r]), acc[r].half[h]);
        if constexpr (F::kHasMins) {
          const __m256 dmin = _mm256_mul_ps(_mm256_loadu_ps(planes.dmin[b] + 8 * h), xs);
          a = _mm256_fnmadd_ps(dmin, _mm256_set1_ps(static_cast<float>(sum32[r])), a);
        }
        acc[r].half[h] = a;
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
  const Tokens tokens = {args.x.q + row * cols + column,
                         args.x.sum16 + (row * cols + column) / 16,
                         args.x.scale + row * (cols / F::kBlock) + first_block,
                         cols,
                         cols / 16,
                         cols / F::kBlock};
  Float16Rows acc[kRows];
  for (int r = 0; r < kRows; ++r) acc[r] = first_block == 0 ? ZeroRows() : LoadGroup(args, group, row + r);
  if constexpr (F::kBlock == kPlaneElements) {
    CloseSuperBlock<F, kRows>(planes, tokens, acc);
  } else {
    CloseBlocks<F, kRows>(planes, blocks, tokens, acc);
  }
  for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
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
        F::template Expand<Words>(packed, PlaneWriter<Words, kBiasOf<F>>(&planes, i, i * kUnitsPerBlock));
      }
      if constexpr (F::kBlock == kPlaneElements) FinishScales<Words, F, kBiasOf<F>>(&planes);
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

}  // namespace tandem::engine::avx2
