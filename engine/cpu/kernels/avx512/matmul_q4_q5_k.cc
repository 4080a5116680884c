#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.cc) is faster.
constexpr int kManyRows = 12;

constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;
constexpr int kVector = 4 * kRowGroup;  // bytes of a word of all rows
// Offsets inside a packed block.
constexpr int kScales = 4 * kRowGroup;
constexpr int kUpper = kScales + 3 * kVector;  // Q5_K
template <bool kFiveBits>
constexpr int kNibbles = kUpper + (kFiveBits ? 8 * kVector : 0);
template <bool kFiveBits>
constexpr int kBlockBytes = kNibbles<kFiveBits> + 32 * kVector;

// Sub-block j in byte j % 4 of each row's word [j / 4].
struct PackedScales {
  __m512i scale[2], min[2];
};

inline PackedScales UnpackScales(const std::byte* block) {
  const __m512i six = _mm512_set1_epi8(63);
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i upper = _mm512_set1_epi8(0x30);
  const __m512i a = Load512(block + kScales);
  const __m512i b = Load512(block + kScales + kVector);
  const __m512i c = Load512(block + kScales + 2 * kVector);
  PackedScales result;
  result.scale[0] = _mm512_and_si512(a, six);
  result.scale[1] = _mm512_or_si512(_mm512_and_si512(c, low), _mm512_and_si512(_mm512_srli_epi16(a, 2), upper));
  result.min[0] = _mm512_and_si512(b, six);
  result.min[1] =
      _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(c, 4), low), _mm512_and_si512(_mm512_srli_epi16(b, 2), upper));
  return result;
}

// Byte `i` of each row's word.
inline __m512i ByteOf(__m512i words, int i) {
  return _mm512_and_si512(_mm512_srli_epi32(words, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255));
}

// The mins of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m512i MinPairs(const PackedScales& scales, int i) {
  const __m512i words = _mm512_srli_epi32(scales.min[i / 2], static_cast<unsigned>(16 * (i % 2)));
  return _mm512_or_si512(ByteOf(words, 0), _mm512_slli_epi32(ByteOf(words, 1), 16));
}

// The fifth bits of sub-block j of one vector of quants, in place.
inline __m512i FifthBits(__m512i upper, int j) {
  const __m512i bits = _mm512_and_si512(_mm512_srli_epi16(upper, static_cast<unsigned>(j)), _mm512_set1_epi8(1));
  return _mm512_slli_epi16(bits, 4);
}

// Sum over j of scale_j * dot_j, for kGroups groups, whose blocks lie group_bytes apart, and kRows rows of x.
template <bool kFiveBits, int kGroups, int kRows>
inline void ScaledDots(const std::byte* block, int64_t group_bytes, const PackedScales (&scales)[kGroups],
                       const int8_t* x, int64_t x_stride, __m512i (&sum)[kGroups][kRows]) {
  const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int c = 0; c < kSubBlocks / 2; ++c) {
    __m512i low_dot[kGroups][kRows] = {};
    __m512i high_dot[kGroups][kRows] = {};
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      __m512i low[kGroups];
      __m512i high[kGroups];
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        const std::byte* own = block + g * group_bytes;
        const __m512i both = Load512(own + kNibbles<kFiveBits> + (8 * c + u) * kVector);
        low[g] = _mm512_and_si512(both, nibble);
        high[g] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        if constexpr (kFiveBits) {
          const __m512i upper = Load512(own + kUpper + u * kVector);
          low[g] = _mm512_or_si512(low[g], FifthBits(upper, 2 * c));
          high[g] = _mm512_or_si512(high[g], FifthBits(upper, 2 * c + 1));
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int8_t* xu = x + r * x_stride + 64 * c + 4 * u;
        const __m512i low_x = _mm512_set1_epi32(LoadInt32(xu));
        const __m512i high_x = _mm512_set1_epi32(LoadInt32(xu + 32));
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) {
          low_dot[g][r] = _mm512_dpbusd_epi32(low_dot[g][r], low[g], low_x);
          high_dot[g][r] = _mm512_dpbusd_epi32(high_dot[g][r], high[g], high_x);
        }
      }
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
      const __m512i low_scale = ByteOf(scales[g].scale[c / 2], 2 * c % 4);
      const __m512i high_scale = ByteOf(scales[g].scale[c / 2], 2 * c % 4 + 1);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i scaled = _mm512_add_epi32(_mm512_mullo_epi32(low_dot[g][r], low_scale),
                                                _mm512_mullo_epi32(high_dot[g][r], high_scale));
        sum[g][r] = c == 0 ? scaled : _mm512_add_epi32(sum[g][r], scaled);
      }
    }
  }
}

template <bool kFiveBits>
struct MatMulQ4_Q5_K {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    const int64_t cols = args.weights.cols;
    const int64_t blocks = cols / kBlock;
    const int64_t group_bytes = static_cast<int64_t>(args.weights.group_bytes);
    const std::byte* block = args.weights.data + group * group_bytes;
    const int8_t* x = args.x.q + row * cols;
    const int32_t* sum16 = args.x.sum16 + row * (cols / 16);
    const float* scale = args.x.scale + row * blocks;
    __m512 acc[kGroups][kRows];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes<kFiveBits>, x += kBlock, sum16 += kBlock / 16) {
      PackedScales scales[kGroups];
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        if (row == 0) PrefetchAfter<kBlockBytes<kFiveBits>>(block + g * group_bytes);
        scales[g] = UnpackScales(block + g * group_bytes);
      }
      __m512i dots[kGroups][kRows];
      ScaledDots<kFiveBits, kGroups, kRows>(block, group_bytes, scales, x, cols, dots);
      int32_t sum_pairs[kRows][4];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) PackPairs<32>(sum16 + r * (cols / 16), sum_pairs[r]);
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        __m512i min_sums[kRows] = {};
        for (int i = 0; i < kSubBlocks / 2; ++i) {
          const __m512i pairs = MinPairs(scales[g], i);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            min_sums[r] = _mm512_dpwssd_epi32(min_sums[r], pairs, _mm512_set1_epi32(sum_pairs[r][i]));
          }
        }
        const __m512 d = LoadHalves(block + g * group_bytes);
        const __m512 dmin = LoadHalves(block + g * group_bytes + 2 * kRowGroup);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512 xs = _mm512_set1_ps(scale[r * blocks + b]);
          acc[g][r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dots[g][r]), acc[g][r]);
          acc[g][r] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xs), _mm512_cvtepi32_ps(min_sums[r]), acc[g][r]);
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

void MatMulQ4_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ4_K>(args);
  RunGroups<MatMulQ4_Q5_K<false>, 1, 8>(args);
}
void MatMulQ5_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ5_K>(args);
  RunGroups<MatMulQ4_Q5_K<true>, 1, 8>(args);
}

}  // namespace tandem::engine::avx512
