#include "engine/cpu/kernels/avx2/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// Tokens that share expanded planes: few enough for their activations and sums to stay in the L2 cache.
constexpr int kTileTokens = 192;

// Fields above this become signed bytes: two of their products with 127 would not fit an int16.
constexpr int kLargestField = 129;
template <typename F>
constexpr bool kSigned = F::kTop > kLargestField;
template <typename F>
constexpr int kBiasOf = kSigned<F> ? 0 : F::kBias;
// Units whose products, two a lane, are summed as int16 before they are scaled.
template <typename F>
constexpr int kUnitsInInt16 = F::kTop <= 16 && F::kSub == 32 ? 8
                              : F::kTop <= 32                ? 4
                              : F::kTop <= 64                ? 2
                                                             : 1;
template <typename F>
constexpr bool kInt16Holds = kSigned<F> || kUnitsInInt16<F> * 2 * F::kTop * 127 <= 32767;

// What the code that closes the planes depends on: formats that are alike share it.
template <int kSubElements, int kRunUnits, bool kSignedBytes, bool kWithMins, bool kIsBiased>
struct Kind {
  static constexpr int kSub = kSubElements, kRun = kRunUnits;  // kSub 0: blocks of 32
  static constexpr bool kSigned = kSignedBytes, kHasMins = kWithMins, kBiased = kIsBiased;
};
template <typename F>
using KindOf = Kind<F::kBlock == kPlaneElements ? F::kSub : 0, kUnitsInInt16<F>, kSigned<F>, F::kHasMins,
                    F::kBlock == kPlaneElements && kBiasOf<F> != 0>;

// A tile of tokens at a place in K: their activations from the planes' first element on, and their sums so far.
struct Tile {
  const int8_t* x;
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
  float (*acc)[kRowGroup];  // [token][row]

  Tile From(int token) const {
    return {x + token * x_stride,
            sum16 + token * sum_stride,
            scale + token * scale_stride,
            x_stride,
            sum_stride,
            scale_stride,
            acc + token};
  }
};

template <int kRows>
using Sums = __m256i[2][kRows];  // rows 0..7 and 8..15 of the group

// sum[h][r] += units [first, first + kUnits) of the planes times those of the tokens, each pair of adjacent products
// times a pair of int16: scale[h].
template <typename K, int kUnits, int kRows>
inline void AddDots(const Planes& planes, int first, const Tile& t, const __m256i (&scale)[2], Sums<kRows>& sum) {
#pragma GCC unroll 8
  for (int run = first; run < first + kUnits; run += K::kRun) {
    Sums<kRows> products;
#pragma GCC unroll 8
    for (int u = run; u < run + K::kRun; ++u) {
      const __m256i w[2] = {Load256(planes.unit[u]), Load256(planes.unit[u] + 32)};
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i x = _mm256_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u));
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          // Signed: |w| * (x with the sign of w).
          const __m256i pairs = K::kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[h]), _mm256_sign_epi8(x, w[h]))
                                           : _mm256_maddubs_epi16(w[h], x);
          products[h][r] = u == run ? pairs : _mm256_add_epi16(products[h][r], pairs);
          if constexpr (K::kRun > 1) KeepOrder(products[h][r]);
        }
      }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sum[h][r] = _mm256_add_epi32(sum[h][r], _mm256_madd_epi16(products[h][r], scale[h]));
        KeepOrder(sum[h][r]);
      }
    }
  }
}

// One super-block and kRows tokens.
template <typename K, int kRows>
inline void CloseSuperBlock(const Planes& planes, const Tile& t) {
  constexpr int kPairs = kPlaneElements / K::kSub / 2;
  Sums<kRows> sum = {};
  for (int j = 0; j < 2 * kPairs; ++j) {
    const __m256i scale[2] = {Load256(planes.scale[j]), Load256(planes.scale[j] + 8)};
    AddDots<K, K::kSub / 4, kRows>(planes, j * K::kSub / 4, t, scale, sum);
  }
  for (int r = 0; r < kRows; ++r) {
    int32_t sum_pairs[kPairs];
    if constexpr (K::kHasMins || K::kBiased) PackPairs<K::kSub>(t.sum16 + r * t.sum_stride, sum_pairs);
    const __m256 xs = _mm256_set1_ps(t.scale[r * t.scale_stride]);
    for (int h = 0; h < 2; ++h) {
      __m256i mins = _mm256_setzero_si256();
      if constexpr (K::kHasMins || K::kBiased) {
        for (int i = 0; i < kPairs; ++i) {
          const __m256i pairs = _mm256_set1_epi32(sum_pairs[i]);
          mins = _mm256_add_epi32(mins, _mm256_madd_epi16(Load256(planes.min_pair[i] + 8 * h), pairs));
        }
      }
      float* acc = t.acc[r] + 8 * h;
      const __m256i dots = K::kHasMins ? sum[h][r] : _mm256_sub_epi32(sum[h][r], mins);
      const __m256 d = _mm256_mul_ps(_mm256_loadu_ps(planes.d[0] + 8 * h), xs);
      __m256 a = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(dots), _mm256_loadu_ps(acc));
      if constexpr (K::kHasMins) {
        const __m256 dmin = _mm256_mul_ps(_mm256_loadu_ps(planes.dmin[0] + 8 * h), xs);
        a = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(mins), a);
      }
      _mm256_storeu_ps(acc, a);
    }
  }
}

// The same of `blocks` blocks of 32, whose fields hold `bias` beyond the value.
template <typename K, int kRows>
inline void CloseBlocks(const Planes& planes, int blocks, int bias, const Tile& t) {
  const __m256i ones[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
  for (int b = 0; b < blocks; ++b) {
    int32_t sum32[kRows];
    Sums<kRows> dot;
    for (int r = 0; r < kRows; ++r) {
      const int32_t* sums = t.sum16 + r * t.sum_stride + 2 * b;
      sum32[r] = sums[0] + sums[1];
      for (int h = 0; h < 2; ++h) dot[h][r] = _mm256_set1_epi32(-bias * sum32[r]);  // what the bias adds too much
    }
    AddDots<K, 8, kRows>(planes, 8 * b, t, ones, dot);
    for (int r = 0; r < kRows; ++r) {
      const __m256 xs = _mm256_set1_ps(t.scale[r * t.scale_stride + b]);
      for (int h = 0; h < 2; ++h) {
        float* acc = t.acc[r] + 8 * h;
        const __m256 d = _mm256_mul_ps(_mm256_loadu_ps(planes.d[b] + 8 * h), xs);
        __m256 a = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(dot[h][r]), _mm256_loadu_ps(acc));
        if constexpr (K::kHasMins) {
          const __m256 dmin = _mm256_mul_ps(_mm256_loadu_ps(planes.dmin[b] + 8 * h), xs);
          a = _mm256_fnmadd_ps(dmin, _mm256_set1_ps(static_cast<float>(sum32[r])), a);
        }
        _mm256_storeu_ps(acc, a);
      }
    }
  }
}

template <typename K, int kRows>
inline void Close(const Planes& planes, int blocks, int bias, const Tile& t) {
  if constexpr (K::kSub != 0) {
    CloseSuperBlock<K, kRows>(planes, t);
  } else {
    CloseBlocks<K, kRows>(planes, blocks, bias, t);
  }
}

template <typename K>
void CloseTile(const Planes& planes, int blocks, int bias, const Tile& tile, int tokens) {
  int row = 0;
  for (; row + 3 <= tokens; row += 3) Close<K, 3>(planes, blocks, bias, tile.From(row));
  if (row + 2 <= tokens) Close<K, 2>(planes, blocks, bias, tile.From(row)), row += 2;
  if (row < tokens) Close<K, 1>(planes, blocks, bias, tile.From(row));
}

// One group and the tokens [row, row + tokens), at most kTileTokens.
template <typename F>
void MultiplyGroup(const MatMulArgs& args, int64_t group, int row, int tokens) {
  static_assert(kInt16Holds<F>);
  constexpr int kBlocksAtOnce = kPlaneElements / F::kBlock;
  const int64_t cols = args.weights.cols;
  const int64_t blocks = cols / F::kBlock;
  Planes planes;
  float acc[kTileTokens][kRowGroup];
  for (int t = 0; t < tokens; ++t) {
    for (float& a : acc[t]) a = 0.0f;
  }
  const std::byte* packed = args.weights.data + group * args.weights.group_bytes;
  for (int64_t b = 0; b < blocks; b += kBlocksAtOnce) {
    const int count = static_cast<int>(blocks - b < kBlocksAtOnce ? blocks - b : kBlocksAtOnce);
    for (int i = 0; i < count; ++i, packed += kRowGroup * F::kBytes) {
      if constexpr (F::kBlock == kPlaneElements) PrefetchAfter<kRowGroup * F::kBytes>(packed);
      F::template Expand<Words>(packed, PlaneWriter<Words, kBiasOf<F>>(&planes, i, i * F::kBlock / 4));
    }
    if constexpr (F::kBlock == kPlaneElements) FinishScales<Words, F, kBiasOf<F>>(&planes);
    const int64_t column = b * F::kBlock;
    const Tile tile = {args.x.q + row * cols + column,
                       args.x.sum16 + (row * cols + column) / 16,
                       args.x.scale + row * blocks + b,
                       cols,
                       cols / 16,
                       blocks,
                       acc};
    CloseTile<KindOf<F>>(planes, count, kBiasOf<F>, tile, tokens);
  }
  for (int t = 0; t < tokens; ++t) {
    StoreGroup(args, group, row + t, {{_mm256_loadu_ps(acc[t]), _mm256_loadu_ps(acc[t] + 8)}});
  }
}

}  // namespace

template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args) {
  for (int row = 0; row < args.rows; row += kTileTokens) {
    const int tokens = args.rows - row < kTileTokens ? args.rows - row : kTileTokens;
    for (int64_t g = args.group_begin; g < args.group_end; ++g) {
      MultiplyGroup<Expander<kType>>(args, g, row, tokens);
    }
  }
}

template void MatMulPlanes<TensorType::kQ4_0>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ8_0>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ4_K>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ5_K>(const MatMulArgs&);
template void MatMulPlanes<TensorType::kQ6_K>(const MatMulArgs&);
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
