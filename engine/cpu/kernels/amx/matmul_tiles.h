// Products of the quantised formats on tiles: 16 tokens x 16 rows at a time, which are the packed layout's own 16.
//
// Weights are expanded into planes (planes.h) once for many tokens. Then
//   blocks of 32    one tile product over K = 32 a block, closed by the FMA that the specification has for it;
//   super-blocks    scale_j * q is an integer of 16 bits (integer_block.h), so it is put as low + 256 * high, low a
//                   byte without sign and high one with. Two tile products run over all of K = 256 with nothing to
//                   scale in between, and one FMA closes them. Where it always fits a signed byte, one product will do.
//
// Rules as in kernels/vector_common.h; the rest of the code is AVX-512.
#pragma once

#include "engine/cpu/kernels/amx/tiles.h"
#include "engine/cpu/kernels/avx512/words.h"
#include "engine/cpu/kernels/expand_bits.h"
#include "engine/cpu/kernels/expand_codes.h"

namespace tandem::engine {
namespace {

constexpr int kTokens = 16;  // of a tile
// Tiles of tokens that share expanded weights: few enough for their activations to stay in an L2 cache of 2 MiB.
constexpr int kMostTiles = 16;

using TileSums = int32_t[kTokens][kRowGroup];

// scale_j * q of a super-block, in units as in Planes.
struct ScaledPlanes {
  alignas(64) uint8_t low[kPlaneElements / 4][4 * kRowGroup];
  alignas(64) uint8_t high[kPlaneElements / 4][4 * kRowGroup];
};

// The tokens of a pass at a place in K, and their sums so far. The last tile may overlap the one before, whose tokens
// it then computes once more: so none is ever short.
struct TokenTiles {
  const int8_t* x;  // of the first token of all, from the planes' first element on; so are the next two
  const int32_t* sum16;
  const float* scale;
  int64_t x_stride, sum_stride, scale_stride;
  int first, last;  // token of the first tile, and the last with which a tile can begin
  int tiles;
  float (*acc)[2][kTokens][kRowGroup];  // [tile][group of the strip][token][row]

  int FirstToken(int tile) const {
    const int token = first + kTokens * tile;
    return token < last ? token : last;
  }
};

template <TensorType kType>
constexpr bool kFitsOnePlane = kType == TensorType::kQ2_K ||                                // 15 * 3
                               kType == TensorType::kTQ1_0 || kType == TensorType::kTQ2_0;  // scales of one

// What the code that closes super-blocks depends on: formats that are alike share it.
template <int kSubElements, bool kWithMins, bool kInOnePlane>
struct SuperBlocks {
  static constexpr int kSub = kSubElements, kPairs = kPlaneElements / kSub / 2;
  static constexpr bool kHasMins = kWithMins, kOnePlane = kInOnePlane;
};

// Multiplies the units of a super-block by the scales of their sub-blocks.
template <typename K>
void ScaleUnits(const Planes& planes, ScaledPlanes* scaled) {
  constexpr __mmask64 kOdd = 0xaaaaaaaaaaaaaaaa;
  for (int u = 0; u < kPlaneElements / 4; ++u) {
    const __m512i words = Load512(planes.scale[4 * u / K::kSub]);
    const __m512i scale = _mm512_mask_blend_epi16(0xaaaaaaaa, words, _mm512_slli_epi32(words, 16));
    const __m512i q = Load512(planes.unit[u]);
    const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(q, 8), 8), scale);
    const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(q, 8), scale);
    _mm512_store_si512(scaled->low[u], _mm512_mask_blend_epi8(kOdd, even, _mm512_slli_epi16(odd, 8)));
    if constexpr (!K::kOnePlane) {
      _mm512_store_si512(scaled->high[u], _mm512_mask_blend_epi8(kOdd, _mm512_srli_epi16(even, 8), odd));
    }
  }
}

// One super-block of 16 rows and the tokens of kTileCount tiles from `tile` on; sums: low and high of the first, of the
// second.
template <typename K, int kTileCount>
inline void MultiplyTiles(const ScaledPlanes& weights, const TokenTiles& t, int tile, TileSums* sums) {
  Tiles::Zero<0>();
  if constexpr (!K::kOnePlane) Tiles::Zero<1>();
  if constexpr (kTileCount == 2) {
    Tiles::Zero<2>();
    if constexpr (!K::kOnePlane) Tiles::Zero<3>();
  }
  const int8_t* x0 = t.x + t.FirstToken(tile) * t.x_stride;
  const int8_t* x1 = t.x + t.FirstToken(tile + 1) * t.x_stride;
#pragma GCC unroll 4
  for (int k = 0; k < kPlaneElements; k += 64) {
    Tiles::Load<4>(x0 + k, t.x_stride);
    if constexpr (kTileCount == 2) Tiles::Load<5>(x1 + k, t.x_stride);
    Tiles::Load<6>(weights.low[k / 4], 64);
    if constexpr (K::kOnePlane) {
      Tiles::DotSigned<0, 4, 6>();
      if constexpr (kTileCount == 2) Tiles::DotSigned<2, 5, 6>();
    } else {
      Tiles::Load<7>(weights.high[k / 4], 64);
      Tiles::DotUnsigned<0, 4, 6>();
      if constexpr (kTileCount == 2) Tiles::DotUnsigned<2, 5, 6>();
      Tiles::DotSigned<1, 4, 7>();
      if constexpr (kTileCount == 2) Tiles::DotSigned<3, 5, 7>();
    }
  }
  Tiles::Store<0>(sums[0], 64);
  if constexpr (!K::kOnePlane) Tiles::Store<1>(sums[1], 64);
  if constexpr (kTileCount == 2) {
    Tiles::Store<2>(sums[2], 64);
    if constexpr (!K::kOnePlane) Tiles::Store<3>(sums[3], 64);
  }
}

// The FMAs of one super-block, group and tile. sum_pairs: PackPairs of each token from t.first on.
template <typename K>
inline void CloseSuperBlock(const Planes& planes, const TileSums* sums, const int32_t (*sum_pairs)[K::kPairs],
                            const TokenTiles& t, int tile, int g) {
  const __m512 d = _mm512_load_ps(planes.d[0]);
  const __m512 dmin = K::kHasMins ? _mm512_load_ps(planes.dmin[0]) : d;
  const int first = t.FirstToken(tile);
  for (int i = 0; i < kTokens; ++i) {
    __m512i dots = Load512(sums[0][i]);
    if constexpr (!K::kOnePlane) dots = _mm512_add_epi32(dots, _mm512_slli_epi32(Load512(sums[1][i]), 8));
    const __m512 xs = _mm512_set1_ps(t.scale[(first + i) * t.scale_stride]);
    float* acc = t.acc[tile][g][i];
    __m512 a = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dots), _mm512_load_ps(acc));
    if constexpr (K::kHasMins) {
      __m512i mins = _mm512_setzero_si512();
      for (int p = 0; p < K::kPairs; ++p) {
        mins =
            _mm512_dpwssd_epi32(mins, Load512(planes.min_pair[p]), _mm512_set1_epi32(sum_pairs[kTokens * tile + i][p]));
      }
      a = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xs), _mm512_cvtepi32_ps(mins), a);
    }
    _mm512_store_ps(acc, a);
  }
}

// One super-block of kGroups groups and all tokens of the pass, two tiles of them at a time. The tiles of one step are
// multiplied before those of the step before are closed, so that both units have work.
template <typename K, int kGroups>
void MultiplySuperBlock(const Planes* planes, const ScaledPlanes* weights, const TokenTiles& t) {
  int32_t sum_pairs[K::kHasMins ? kMostTiles * kTokens : 1][K::kPairs];
  if constexpr (K::kHasMins) {
    for (int i = 0; i < kTokens * t.tiles; ++i) {
      const int64_t token = t.FirstToken(i / kTokens) + i % kTokens;
      PackPairs<K::kSub>(t.sum16 + token * t.sum_stride, sum_pairs[i]);
    }
  }
  alignas(64) TileSums sums[2][4];
  const int steps = (t.tiles + 1) / 2 * kGroups;
  for (int step = 0; step <= steps; ++step) {
    if (step < steps) {
      const int tile = step / kGroups * 2;
      const ScaledPlanes& own = weights[step % kGroups];
      if (tile + 1 < t.tiles) {
        MultiplyTiles<K, 2>(own, t, tile, sums[step % 2]);
      } else {
        MultiplyTiles<K, 1>(own, t, tile, sums[step % 2]);
      }
    }
    if (step == 0) continue;
    const int tile = (step - 1) / kGroups * 2;
    const int g = (step - 1) % kGroups;
    const TileSums* own = sums[(step - 1) % 2];
    CloseSuperBlock<K>(planes[g], own, sum_pairs, t, tile, g);
    if (tile + 1 < t.tiles) CloseSuperBlock<K>(planes[g], own + 2, sum_pairs, t, tile + 1, g);
  }
}

// Up to eight blocks of 32 of one group, and one tile of tokens, whose sums stay in registers.
template <bool kHasMins>
class BlockTile {
 public:
  BlockTile(const Planes& planes, int blocks, const TokenTiles& t, int tile)
      : planes_(planes),
        blocks_(blocks),
        x_(t.x + t.FirstToken(tile) * t.x_stride),
        sum16_(t.sum16 + t.FirstToken(tile) * t.sum_stride),
        scale_(t.scale + t.FirstToken(tile) * t.scale_stride),
        t_(t) {}

  // Products run two blocks ahead of the FMAs.
  void Run(float (*acc)[kRowGroup]) {
    __m512 a[kTokens];
#pragma GCC unroll 16
    for (int i = 0; i < kTokens; ++i) a[i] = _mm512_load_ps(acc[i]);
    Multiply<0>(0);
    Multiply<1>(1);
    for (int b = 0; b < blocks_; b += 4) {
      Multiply<2>(b + 2);
      Close(b, sums_[0], a);
      Multiply<3>(b + 3);
      Close(b + 1, sums_[1], a);
      Multiply<0>(b + 4);
      Close(b + 2, sums_[2], a);
      Multiply<1>(b + 5);
      Close(b + 3, sums_[3], a);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kTokens; ++i) _mm512_store_ps(acc[i], a[i]);
  }

 private:
  template <int kSum>
  void Multiply(int b) {
    if (b >= blocks_) return;
    constexpr int kX = 4 + kSum % 2, kWeights = 6 + kSum % 2;
    Tiles::Zero<kSum>();
    Tiles::Load<kX>(x_ + 32 * b, t_.x_stride);
    Tiles::Load<kWeights>(planes_.unit[8 * b], 64);
    Tiles::DotSigned<kSum, kX, kWeights>();
    Tiles::Store<kSum>(sums_[kSum], 64);
  }

  __attribute__((always_inline)) void Close(int b, const TileSums& sums, __m512 (&a)[kTokens]) const {
    if (b >= blocks_) return;
    const __m512 d = _mm512_load_ps(planes_.d[b]);
#pragma GCC unroll 16
    for (int i = 0; i < kTokens; ++i) {
      const __m512 xs = _mm512_set1_ps(scale_[i * t_.scale_stride + b]);
      a[i] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(Load512(sums[i])), a[i]);
      if constexpr (kHasMins) {
        const int32_t* own = sum16_ + i * t_.sum_stride + 2 * b;
        const __m512 dmin = _mm512_mul_ps(_mm512_load_ps(planes_.dmin[b]), xs);
        a[i] = _mm512_fnmadd_ps(dmin, _mm512_set1_ps(static_cast<float>(own[0] + own[1])), a[i]);
      }
    }
  }

  const Planes& planes_;
  const int blocks_;
  const int8_t* const x_;
  const int32_t* const sum16_;
  const float* const scale_;
  const TokenTiles& t_;
  alignas(64) TileSums sums_[4];
};

// A strip of kGroups groups from `group` on and the tokens of t.
template <TensorType kType, int kGroups>
void MultiplyStrip(const MatMulArgs& args, int64_t group, TokenTiles t) {
  using F = Expander<kType>;
  using K = SuperBlocks<F::kSub, F::kHasMins, kFitsOnePlane<kType>>;
  constexpr bool kSuper = F::kBlock == kPlaneElements;
  constexpr int kBlocksAtOnce = kPlaneElements / F::kBlock;
  const int64_t blocks = args.weights.cols / F::kBlock;
  Planes planes[kGroups];
  ScaledPlanes scaled[kSuper ? kGroups : 1];
  alignas(64) float acc[kMostTiles][2][kTokens][kRowGroup];
  __builtin_memset(acc, 0, sizeof(acc[0]) * static_cast<size_t>(t.tiles));
  t.acc = acc;
  const std::byte* packed = args.weights.data + group * args.weights.group_bytes;
  for (int64_t b = 0; b < blocks; b += kBlocksAtOnce) {
    const int count = static_cast<int>(blocks - b < kBlocksAtOnce ? blocks - b : kBlocksAtOnce);
    for (int g = 0; g < kGroups; ++g) {
      const std::byte* own = packed + g * args.weights.group_bytes;
      for (int i = 0; i < count; ++i, own += kRowGroup * F::kBytes) {
        if constexpr (kSuper) PrefetchAfter<kRowGroup * F::kBytes>(own);
        F::template Expand<Words>(own, PlaneWriter<Words, 0>(&planes[g], i, i * F::kBlock / 4));
      }
      if constexpr (kSuper) {
        PairMins<Words, F, 0>(&planes[g]);
        ScaleUnits<K>(planes[g], &scaled[g]);
      }
    }
    packed += count * kRowGroup * F::kBytes;
    if constexpr (kSuper) {
      MultiplySuperBlock<K, kGroups>(planes, scaled, t);
    } else {
      for (int tile = 0; tile < t.tiles; ++tile) {
        for (int g = 0; g < kGroups; ++g) {
          BlockTile<F::kHasMins>(planes[g], count, t, tile).Run(acc[tile][g]);
        }
      }
    }
    t.x += count * F::kBlock;
    t.sum16 += count * F::kBlock / 16;
    t.scale += count;
  }
  for (int tile = 0; tile < t.tiles; ++tile) {
    for (int g = 0; g < kGroups; ++g) {
      for (int i = 0; i < kTokens; ++i) {
        StoreGroup(args, group + g, t.FirstToken(tile) + i, _mm512_load_ps(acc[tile][g][i]));
      }
    }
  }
}

// The product of a quantised type; args.rows at least kTokens.
template <TensorType kType>
void MatMulOnTiles(const MatMulArgs& args) {
  using F = Expander<kType>;
  static constexpr TileShapes kShapes = ShapesFor < F::kBlock == kPlaneElements ? 64 : 32 > ();
  Tiles::Configure(kShapes);
  const int64_t cols = args.weights.cols;
  for (int row = 0; row < args.rows; row += kMostTiles * kTokens) {
    const int tiles = (args.rows - row + kTokens - 1) / kTokens;
    const TokenTiles t = {args.x.q, args.x.sum16,        args.x.scale,
                          cols,     cols / 16,           cols / F::kBlock,
                          row,      args.rows - kTokens, tiles < kMostTiles ? tiles : kMostTiles,
                          nullptr};
    int64_t g = args.group_begin;
    for (; g + 2 <= args.group_end; g += 2) MultiplyStrip<kType, 2>(args, g, t);
    for (; g < args.group_end; ++g) MultiplyStrip<kType, 1>(args, g, t);
  }
  Tiles::Release();
}

}  // namespace
}  // namespace tandem::engine
