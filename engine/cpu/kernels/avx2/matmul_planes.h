// The quantised formats by planes (planes.h) on AVX2 and AVX-VNNI. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/dot.h"
#include "engine/cpu/kernels/avx2/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"

namespace tandem::engine {
namespace {

// Tokens that share expanded planes: few enough for their activations and sums to stay in the L2 cache.
constexpr int kTileTokens = 192;

// Fields too large for the dot product become signed bytes.
template <typename Dot, typename F>
constexpr bool kSigned = Dot::MaxUnits(F::kTop) == 0;
template <typename Dot, typename F>
constexpr int kBiasOf = kSigned<Dot, F> ? 0 : F::kBias;
// Units whose products are summed before they are scaled.
template <typename Dot, typename F>
constexpr int kRunOf = kSigned<Dot, F>                        ? 1
                       : Dot::MaxUnits(F::kTop) < F::kSub / 4 ? Dot::MaxUnits(F::kTop)
                                                              : F::kSub / 4;

// What the code that closes the planes depends on: formats that are alike share it.
template <typename TheDot, int kSubElements, int kRunUnits, bool kSignedBytes, bool kWithMins, bool kIsBiased>
struct Kind {
  using Dot = TheDot;
  static constexpr int kSub = kSubElements, kRun = kRunUnits;  // kSub 0: blocks of 32
  static constexpr bool kSigned = kSignedBytes, kHasMins = kWithMins, kBiased = kIsBiased;
};
template <typename Dot, typename F>
using KindOf = Kind<Dot, F::kBlock == kPlaneElements ? F::kSub : 0, kRunOf<Dot, F>, kSigned<Dot, F>, F::kHasMins,
                    F::kBlock == kPlaneElements && kBiasOf<Dot, F> != 0>;

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

// sum[h][r] += units [first, first + kUnits) of the planes times those of the tokens, times scale[h].
template <typename K, int kUnits, int kRows>
inline void AddDots(const Planes& planes, int first, const Tile& t, const __m256i (&scale)[2], Sums<kRows>& sum) {
#pragma GCC unroll 8
  for (int run = first; run < first + kUnits; run += K::kRun) {
    Sums<kRows> products = {};
#pragma GCC unroll 8
    for (int u = run; u < run + K::kRun; ++u) {
      const __m256i w[2] = {Load256(planes.unit[u]), Load256(planes.unit[u] + 32)};
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i x = _mm256_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u));
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          if constexpr (K::kSigned) {
            products[h][r] = K::Dot::SignedProducts(w[h], x);
          } else {
            products[h][r] = K::Dot::Add(products[h][r], w[h], x);
          }
          if constexpr (K::kRun > 1) KeepOrder(products[h][r]);
        }
      }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sum[h][r] = _mm256_add_epi32(sum[h][r], K::Dot::Scaled(products[h][r], scale[h]));
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
  const __m256i one = K::Dot::ScaleOperand(_mm256_set1_epi32(1));
  const __m256i ones[2] = {one, one};
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

// Brings the scales of a super-block into the form that the dot products take.
template <typename Dot, int kSubBlocks>
inline void PrepareScales(Planes* planes) {
  for (int j = 0; j < kSubBlocks; ++j) {
    for (int h = 0; h < 2; ++h) {
      int32_t* scale = planes->scale[j] + 8 * h;
      _mm256_store_si256(reinterpret_cast<__m256i*>(scale), Dot::ScaleOperand(Load256(scale)));
    }
  }
}

// One group and the tokens [row, row + tokens), at most kTileTokens.
template <typename Dot, typename F>
void MultiplyGroup(const MatMulArgs& args, int64_t group, int row, int tokens) {
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
      F::template Expand<Words>(packed, PlaneWriter<Words, kBiasOf<Dot, F>>(&planes, i, i * F::kBlock / 4));
    }
    if constexpr (F::kBlock == kPlaneElements) {
      PairMins<Words, F, kBiasOf<Dot, F>>(&planes);
      PrepareScales<Dot, kPlaneElements / F::kSub>(&planes);
    }
    const int64_t column = b * F::kBlock;
    const Tile tile = {args.x.q + row * cols + column,
                       args.x.sum16 + (row * cols + column) / 16,
                       args.x.scale + row * blocks + b,
                       cols,
                       cols / 16,
                       blocks,
                       acc};
    CloseTile<KindOf<Dot, F>>(planes, count, kBiasOf<Dot, F>, tile, tokens);
  }
  for (int t = 0; t < tokens; ++t) {
    StoreGroup(args, group, row + t, {{_mm256_loadu_ps(acc[t]), _mm256_loadu_ps(acc[t] + 8)}});
  }
}

template <typename Dot, TensorType kType>
void MultiplyPlanes(const MatMulArgs& args) {
  for (int row = 0; row < args.rows; row += kTileTokens) {
    const int tokens = args.rows - row < kTileTokens ? args.rows - row : kTileTokens;
    for (int64_t g = args.group_begin; g < args.group_end; ++g) {
      MultiplyGroup<Dot, Expander<kType>>(args, g, row, tokens);
    }
  }
}

}  // namespace
}  // namespace tandem::engine
