// Q4_K and Q5_K on AVX2 and AVX-VNNI. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/dot.h"

namespace tandem::engine {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.h) is faster.
constexpr int kManyRows = 6;

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

// Of 8 rows: sub-block j in byte j % 4 of each row's word [j / 4].
struct PackedScales {
  __m256i scale[2], min[2];
};

// `block` at the first of the 8 rows.
inline PackedScales UnpackScales(const std::byte* block) {
  const __m256i six = _mm256_set1_epi8(63);
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i upper = _mm256_set1_epi8(0x30);
  const __m256i a = Load256(block + kScales);
  const __m256i b = Load256(block + kScales + kVector);
  const __m256i c = Load256(block + kScales + 2 * kVector);
  PackedScales result;
  result.scale[0] = _mm256_and_si256(a, six);
  result.scale[1] = _mm256_or_si256(_mm256_and_si256(c, low), _mm256_and_si256(_mm256_srli_epi16(a, 2), upper));
  result.min[0] = _mm256_and_si256(b, six);
  result.min[1] =
      _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(c, 4), low), _mm256_and_si256(_mm256_srli_epi16(b, 2), upper));
  return result;
}

// Byte `i` of each row's word.
inline __m256i ByteOf(__m256i words, int i) {
  return _mm256_and_si256(_mm256_srli_epi32(words, 8 * i), _mm256_set1_epi32(255));
}

// The scale of sub-block j.
template <typename Dot>
inline __m256i Scale(const PackedScales& scales, int j) {
  return Dot::ScaleOperand(ByteOf(scales.scale[j / 4], j % 4));
}

// The fifth bits of sub-block j of one vector of quants, in place.
inline __m256i FifthBits(__m256i upper, int j) {
  return _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(upper, j), _mm256_set1_epi8(1)), 4);
}

// Sum over j of scale_j * dot_j, for 8 rows of the group, at which `block` starts, and kRows rows of x.
template <typename Dot, bool kFiveBits, int kRows>
inline void ScaledDots(const std::byte* block, const PackedScales& scales, const int8_t* x, int64_t x_stride,
                       __m256i (&sum)[kRows]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  constexpr int kUnits = Dot::MaxUnits(kFiveBits ? 31 : 15);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int c = 0; c < kSubBlocks / 2; ++c) {
    const __m256i low_scale = Scale<Dot>(scales, 2 * c);
    const __m256i high_scale = Scale<Dot>(scales, 2 * c + 1);
    for (int first = 0; first < 8; first += kUnits) {
      __m256i low_dot[kRows] = {};
      __m256i high_dot[kRows] = {};
#pragma GCC unroll 8
      for (int u = first; u < first + kUnits; ++u) {
        const __m256i both = Load256(block + kNibbles<kFiveBits> + (8 * c + u) * kVector);
        __m256i low = _mm256_and_si256(both, nibble);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        if constexpr (kFiveBits) {
          const __m256i upper = Load256(block + kUpper + u * kVector);
          low = _mm256_or_si256(low, FifthBits(upper, 2 * c));
          high = _mm256_or_si256(high, FifthBits(upper, 2 * c + 1));
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const int8_t* xu = x + r * x_stride + 64 * c + 4 * u;
          const __m256i low_x = _mm256_set1_epi32(LoadInt32(xu));
          const __m256i high_x = _mm256_set1_epi32(LoadInt32(xu + 32));
          low_dot[r] = Dot::Add(low_dot[r], low, low_x);
          high_dot[r] = Dot::Add(high_dot[r], high, high_x);
          KeepOrder(low_dot[r]);
          KeepOrder(high_dot[r]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i scaled =
            _mm256_add_epi32(Dot::Scaled(low_dot[r], low_scale), Dot::Scaled(high_dot[r], high_scale));
        sum[r] = _mm256_add_epi32(sum[r], scaled);
      }
    }
  }
}

// Sum over j of min_j * sum_j of x, for 8 rows of the group.
inline __m256i ScaledMins(const PackedScales& scales, const int32_t (&sum_pairs)[4]) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < kSubBlocks / 2; ++i) {
    const __m256i words = _mm256_srli_epi32(scales.min[i / 2], 16 * (i % 2));
    const __m256i pairs = _mm256_or_si256(ByteOf(words, 0), _mm256_slli_epi32(ByteOf(words, 1), 16));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi32(sum_pairs[i])));
  }
  return sum;
}

template <typename Dot, bool kFiveBits>
struct MatMulQ4_Q5_K {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    static_assert(kGroups == 1);
    const int64_t cols = args.weights.cols;
    const int64_t blocks = cols / kBlock;
    const std::byte* block = args.weights.data + group * args.weights.group_bytes;
    const int8_t* x = args.x.q + row * cols;
    const int32_t* sum16 = args.x.sum16 + row * (cols / 16);
    const float* scale = args.x.scale + row * blocks;
    Float16Rows acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes<kFiveBits>, x += kBlock, sum16 += kBlock / 16) {
      if (row == 0) PrefetchAfter<kBlockBytes<kFiveBits>>(block);
      const Float16Rows d = LoadHalves(block);
      const Float16Rows dmin = LoadHalves(block + 2 * kRowGroup);
      int32_t sum_pairs[kRows][4];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) PackPairs<32>(sum16 + r * (cols / 16), sum_pairs[r]);
#pragma GCC unroll 8
      for (int h = 0; h < 2; ++h) {
        const PackedScales scales = UnpackScales(block + 32 * h);
        __m256i dots[kRows];
        ScaledDots<Dot, kFiveBits, kRows>(block + 32 * h, scales, x, cols, dots);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m256 xs = _mm256_broadcast_ss(scale + r * blocks + b);
          const __m256 min_sum = _mm256_cvtepi32_ps(ScaledMins(scales, sum_pairs[r]));
          __m256 a = acc[r].half[h];
          a = _mm256_fmadd_ps(_mm256_mul_ps(d.half[h], xs), _mm256_cvtepi32_ps(dots[r]), a);
          acc[r].half[h] = _mm256_fnmadd_ps(_mm256_mul_ps(dmin.half[h], xs), min_sum, a);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace
}  // namespace tandem::engine
