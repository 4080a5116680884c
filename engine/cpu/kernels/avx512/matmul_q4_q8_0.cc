#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.cc) is faster.
constexpr int kManyRows = 40;

constexpr int kBlock = 32;

// How the weights of a block become unsigned bytes: units u and u + 4 from one place, and what they hold too much.
struct UnpackQ8_0 {
  static constexpr int kBytes = 2 + kBlock, kBias = 128;
  static constexpr bool kFetchesAhead = false;  // the processor's own prefetching is faster
  static void Load(const std::byte* vectors, int u, __m512i* low, __m512i* high) {
    const __m512i flip = _mm512_set1_epi8(-128);
    *low = _mm512_xor_si512(Load512(vectors + 64 * u), flip);
    *high = _mm512_xor_si512(Load512(vectors + 64 * (u + 4)), flip);
  }
};

struct UnpackQ4_0 {
  static constexpr int kBytes = 2 + kBlock / 2, kBias = 8;
  static constexpr bool kFetchesAhead = true;
  static void Load(const std::byte* vectors, int u, __m512i* low, __m512i* high) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i both = Load512(vectors + 64 * u);
    *low = _mm512_and_si512(both, nibble);
    *high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
  }
};

// Cache lines of a block, counted from its beginning.
struct LineRange {
  int first, end;
};

// The part of the groups that follow that a pass over kRows tokens from `row` on asks for, of each of their blocks. All
// passes over a group but the first find it in a cache; would they not each ask for a part of what comes next, memory
// would rest meanwhile. None where one pass is enough.
template <int kBlockBytes, int kRows>
inline LineRange PartToFetch(const MatMulArgs& args, int row) {
  constexpr int kLines = (kBlockBytes + 63) / 64;
  if (args.rows == kRows) return {0, 0};
  return {kLines * row / args.rows, kLines * (row + kRows) / args.rows};
}
inline void Fetch(const std::byte* block, LineRange lines) {
  for (int line = lines.first; line < lines.end; ++line) Prefetch<2>(block + 64 * line);
}

template <typename Unpack>
struct MatMulBlock32 {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    constexpr int kBlockBytes = kRowGroup * Unpack::kBytes;
    const int64_t cols = args.weights.cols;
    const int64_t blocks = cols / kBlock;
    const int64_t group_bytes = static_cast<int64_t>(args.weights.group_bytes);
    const std::byte* block = args.weights.data + group * group_bytes;
    const int8_t* x = args.x.q + row * cols;
    const int32_t* sum16 = args.x.sum16 + row * (cols / 16);
    const float* scale = args.x.scale + row * blocks;
    const LineRange part = PartToFetch<kBlockBytes, kRows>(args, row);
    __m512 acc[kGroups][kRows];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += 2) {
      if (Unpack::kFetchesAhead && args.rows == kRows) {
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) PrefetchAfter<kBlockBytes>(block + g * group_bytes);
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) Fetch(block + (kGroups + g) * group_bytes, part);
      // The instruction wants unsigned weights; the dot product starts at what their bias adds too much.
      __m512i dot[kGroups][kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int32_t* sums = sum16 + r * (cols / 16);
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) dot[g][r] = _mm512_set1_epi32(-Unpack::kBias * (sums[0] + sums[1]));
      }
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) {
        __m512i low[kGroups];
        __m512i high[kGroups];
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) {
          Unpack::Load(block + g * group_bytes + 2 * kRowGroup, u, &low[g], &high[g]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512i low_x = _mm512_set1_epi32(LoadInt32(x + r * cols + 4 * u));
          const __m512i high_x = _mm512_set1_epi32(LoadInt32(x + r * cols + 4 * (u + 4)));
#pragma GCC unroll 8
          for (int g = 0; g < kGroups; ++g) {
            dot[g][r] = _mm512_dpbusd_epi32(dot[g][r], low[g], low_x);
            dot[g][r] = _mm512_dpbusd_epi32(dot[g][r], high[g], high_x);
          }
        }
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        const __m512 d = LoadHalves(block + g * group_bytes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512 xs = _mm512_set1_ps(scale[r * blocks + b]);
          acc[g][r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dot[g][r]), acc[g][r]);
        }
      }
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) StoreGroup(args, group + g, row + r, acc[g][r]);
    }
  }
};

}  // namespace

void MatMulQ8_0(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ8_0>(args);
  RunGroups<MatMulBlock32<UnpackQ8_0>, 2, 4>(args);
}
void MatMulQ4_0(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ4_0>(args);
  RunGroups<MatMulBlock32<UnpackQ4_0>, 2, 4>(args);
}

}  // namespace tandem::engine::avx512
