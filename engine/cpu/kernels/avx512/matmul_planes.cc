#include "engine/cpu/kernels/avx512/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// Tokens that share expanded planes: few enough for their activations and sums to stay in the L2 cache.
constexpr int kTileTokens = 192;

// What the code that closes the planes depends on: formats that are alike share it.
template <int kSubElements, bool kWithMins, bool kIsBiased>
struct SuperBlocks {
  static constexpr int kSub = kSubElements;
  static constexpr bool kSuper = true, kHasMins = kWithMins, kBiased = kIsBiased;
};
template <bool kWithMins>
struct Blocks32 {
  static constexpr bool kSuper = false, kHasMins = kWithMins;
};
template <typename F, bool kSuper = F::kBlock == kPlaneElements>
struct ClosingOf {
  using Type = SuperBlocks<F::kSub, F::kHasMins, F::kBias != 0>;
};
template <typename F>
struct ClosingOf<F, false> {
  using Type = Blocks32<F::kHasMins>;
};

// A tile of tokens at a place in K: their activations from the planes' first element on, and their sums so far.
struct Tile {
  const int8_t* x;
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
  float (*acc)[2][kRowGroup];  // [token][group of the strip][row]

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

template <int kGroups, int kRows>
using Sums = __m512i[kGroups][kRows];

// dot[g][r] += units [first, first + kUnits) of the planes times those of the tokens.
template <int kUnits, int kGroups, int kRows>
inline void AddDots(const Planes* planes, int first, const Tile& t, Sums<kGroups, kRows>& dot) {
#pragma GCC unroll 8
  for (int u = first; u < first + kUnits; ++u) {
    __m512i w[kGroups];
    for (int g = 0; g < kGroups; ++g) w[g] = Load512(planes[g].unit[u]);
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(LoadInt32(t.x + r * t.x_stride + 4 * u));
      for (int g = 0; g < kGroups; ++g) dot[g][r] = _mm512_dpbusd_epi32(dot[g][r], w[g], x);
    }
  }
}

// One super-block of kGroups groups and kRows tokens.
template <typename C, int kGroups, int kRows>
inline void CloseSuperBlock(const Planes* planes, const Tile& t) {
  constexpr int kPairs = kPlaneElements / C::kSub / 2;
  Sums<kGroups, kRows> sum;
  for (int j = 0; j < 2 * kPairs; ++j) {
    Sums<kGroups, kRows> dot = {};
    AddDots<C::kSub / 4, kGroups, kRows>(planes, j * C::kSub / 4, t, dot);
    for (int g = 0; g < kGroups; ++g) {
      const __m512i scale = Load512(planes[g].scale[j]);
      for (int r = 0; r < kRows; ++r) {
        const __m512i scaled = _mm512_mullo_epi32(dot[g][r], scale);
        sum[g][r] = j == 0 ? scaled : _mm512_add_epi32(sum[g][r], scaled);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    int32_t sum_pairs[kPairs];
    if constexpr (C::kHasMins || C::kBiased) PackPairs<C::kSub>(t.sum16 + r * t.sum_stride, sum_pairs);
    const __m512 xs = _mm512_set1_ps(t.scale[r * t.scale_stride]);
    for (int g = 0; g < kGroups; ++g) {
      __m512i mins = _mm512_setzero_si512();
      if constexpr (C::kHasMins || C::kBiased) {
        for (int i = 0; i < kPairs; ++i) {
          mins = _mm512_dpwssd_epi32(mins, Load512(planes[g].min_pair[i]), _mm512_set1_epi32(sum_pairs[i]));
        }
      }
      const __m512i dots = C::kHasMins ? sum[g][r] : _mm512_sub_epi32(sum[g][r], mins);
      const __m512 d = _mm512_mul_ps(_mm512_loadu_ps(planes[g].d[0]), xs);
      __m512 acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(dots), _mm512_loadu_ps(t.acc[r][g]));
      if constexpr (C::kHasMins) {
        const __m512 dmin = _mm512_mul_ps(_mm512_loadu_ps(planes[g].dmin[0]), xs);
        acc = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(mins), acc);
      }
      _mm512_storeu_ps(t.acc[r][g], acc);
    }
  }
}

// The same of `blocks` blocks of 32, whose fields hold `bias` beyond the value.
template <typename C, int kGroups, int kRows>
inline void CloseBlocks(const Planes* planes, int blocks, int bias, const Tile& t) {
  __m512 acc[kGroups][kRows];
  for (int g = 0; g < kGroups; ++g) {
    for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_loadu_ps(t.acc[r][g]);
  }
  for (int b = 0; b < blocks; ++b) {
    int32_t sum32[kRows];
    Sums<kGroups, kRows> dot;
    for (int r = 0; r < kRows; ++r) {
      const int32_t* sums = t.sum16 + r * t.sum_stride + 2 * b;
      sum32[r] = sums[0] + sums[1];
      for (int g = 0; g < kGroups; ++g) dot[g][r] = _mm512_set1_epi32(-bias * sum32[r]);  // what the bias adds too much
    }
    AddDots<8, kGroups, kRows>(planes, 8 * b, t, dot);
    for (int g = 0; g < kGroups; ++g) {
      const __m512 d = _mm512_loadu_ps(planes[g].d[b]);
      for (int r = 0; r < kRows; ++r) {
        const __m512 xs = _mm512_set1_ps(t.scale[r * t.scale_stride + b]);
        acc[g][r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dot[g][r]), acc[g][r]);
        if constexpr (C::kHasMins) {
          const __m512 dmin = _mm512_mul_ps(_mm512_loadu_ps(planes[g].dmin[b]), xs);
          acc[g][r] = _mm512_fnmadd_ps(dmin, _mm512_set1_ps(static_cast<float>(sum32[r])), acc[g][r]);
        }
      }
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(t.acc[r][g], acc[g][r]);
  }
}

template <typename C, int kGroups, int kRows>
inline void Close(const Planes* planes, int blocks, int bias, const Tile& t) {
  if constexpr (C::kSuper) {
    CloseSuperBlock<C, kGroups, kRows>(planes, t);
  } else {
    CloseBlocks<C, kGroups, kRows>(planes, blocks, bias, t);
  }
}

template <typename C, int kGroups>
void CloseTile(const Planes* planes, int blocks, int bias, const Tile& tile, int tokens) {
  int row = 0;
  for (; row + 6 <= tokens; row += 6) Close<C, kGroups, 6>(planes, blocks, bias, tile.From(row));
  if (row + 4 <= tokens) Close<C, kGroups, 4>(planes, blocks, bias, tile.From(row)), row += 4;
  if (row + 2 <= tokens) Close<C, kGroups, 2>(planes, blocks, bias, tile.From(row)), row += 2;
  if (row < tokens) Close<C, kGroups, 1>(planes, blocks, bias, tile.From(row));
}

// A strip of kGroups groups from `group` on and the tokens [row, row + tokens), at most kTileTokens.
template <typename F, int kGroups>
void MultiplyStrip(const MatMulArgs& args, int64_t group, int row, int tokens) {
  constexpr int kBlocksAtOnce = kPlaneElements / F::kBlock;
  const int64_t cols = args.weights.cols;
  const int64_t blocks = cols / F::kBlock;
  Planes planes[kGroups];
  float acc[kTileTokens][2][kRowGroup];
  for (int t = 0; t < tokens; ++t) {
    for (int g = 0; g < kGroups; ++g) _mm512_storeu_ps(acc[t][g], _mm512_setzero_ps());
  }
  const std::byte* packed = args.weights.data + group * args.weights.group_bytes;
  for (int64_t b = 0; b < blocks; b += kBlocksAtOnce) {
    const int count = static_cast<int>(blocks - b < kBlocksAtOnce ? blocks - b : kBlocksAtOnce);
    for (int g = 0; g < kGroups; ++g) {
      const std::byte* own = packed + g * args.weights.group_bytes;
      for (int i = 0; i < count; ++i, own += kRowGroup * F::kBytes) {
        if constexpr (F::kBlock == kPlaneElements) PrefetchAfter<kRowGroup * F::kBytes>(own);
        F::template Expand<Words>(own, PlaneWriter<Words, F::kBias>(&planes[g], i, i * F::kBlock / 4));
      }
      if constexpr (F::kBlock == kPlaneElements) PairMins<Words, F, F::kBias>(&planes[g]);
    }
    packed += count * kRowGroup * F::kBytes;
    const int64_t column = b * F::kBlock;
    const Tile tile = {args.x.q + row * cols + column,
                       args.x.sum16 + (row * cols + column) / 16,
                       args.x.scale + row * blocks + b,
                       cols,
                       cols / 16,
                       blocks,
                       acc};
    CloseTile<typename ClosingOf<F>::Type, kGroups>(planes, count, F::kBias, tile, tokens);
  }
  for (int t = 0; t < tokens; ++t) {
    for (int g = 0; g < kGroups; ++g) StoreGroup(args, group + g, row + t, _mm512_loadu_ps(acc[t][g]));
  }
}

}  // namespace

template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args) {
  using F = Expander<kType>;
  for (int row = 0; row < args.rows; row += kTileTokens) {
    const int tokens = args.rows - row < kTileTokens ? args.rows - row : kTileTokens;
    int64_t g = args.group_begin;
    for (; g + 2 <= args.group_end; g += 2) MultiplyStrip<F, 2>(args, g, row, tokens);
    for (; g < args.group_end; ++g) MultiplyStrip<F, 1>(args, g, row, tokens);
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

}  // namespace tandem::engine::avx512
