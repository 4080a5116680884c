// Q6_K on AVX2 and AVX-VNNI. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/dot.h"

namespace tandem::engine {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.h) is faster.
constexpr int kManyRows = 4;

constexpr int kBlock = 256;
constexpr int kSubBlocks = 16;
constexpr int kVector = 4 * kRowGroup;  // bytes of a word of all rows
// Offsets inside a packed block.
constexpr int kUpper = 32 * kVector;
constexpr int kScales = kUpper + 16 * kVector;
constexpr int kFactor = kScales + 4 * kVector;
constexpr int kBlockBytes = kFactor + 2 * kRowGroup;

// The scale of sub-block j of 8 rows. `block` here and below: at the first of the 8 rows.
inline __m256i Scale(const std::byte* block, int j) {
  const __m256i words = Load256(block + kScales + j / 4 * kVector);
  return _mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * (j % 4)), 24);
}

// The scales of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m256i ScalePairs(const std::byte* block, int i) {
  const __m256i words = _mm256_srli_epi32(Load256(block + kScales + i / 2 * kVector), 16 * (i % 2));
  const __m256i even = _mm256_and_si256(_mm256_slli_epi32(words, 8), _mm256_set1_epi32(0xff00));
  const __m256i odd = _mm256_and_si256(_mm256_slli_epi32(words, 16), _mm256_set1_epi32(~0xffffff));
  return _mm256_srai_epi16(_mm256_or_si256(even, odd), 8);
}

// Sum over j of scale_j * sum_j of x, for 8 rows of the group: what the offset of 32 adds 32 times too much.
inline __m256i ScaledSums(const std::byte* block, const int32_t (&sum_pairs)[8]) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < kSubBlocks / 2; ++i) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(ScalePairs(block, i), _mm256_set1_epi32(sum_pairs[i])));
  }
  return sum;
}

// The values 0..63 of unit p of the four runs of half h.
inline void Unpack(const std::byte* block, int h, int p, __m256i (&q)[4]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i pair = _mm256_set1_epi8(0x30);
  const __m256i low0 = Load256(block + (16 * h + p) * kVector);
  const __m256i low1 = Load256(block + (16 * h + 8 + p) * kVector);
  const __m256i top = Load256(block + kUpper + (8 * h + p) * kVector);
  q[0] = _mm256_or_si256(_mm256_and_si256(low0, nibble), _mm256_and_si256(_mm256_slli_epi16(top, 4), pair));
  q[1] = _mm256_or_si256(_mm256_and_si256(low1, nibble), _mm256_and_si256(_mm256_slli_epi16(top, 2), pair));
  q[2] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(low0, 4), nibble), _mm256_and_si256(top, pair));
  q[3] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(low1, 4), nibble),
                         _mm256_and_si256(_mm256_srli_epi16(top, 2), pair));
}

// Sum over j of scale_j * dot of q and x, q = 0..63, for 8 rows of the group and kRows rows of x.
template <typename Dot, int kRows>
inline void ScaledDots(const std::byte* block, const int8_t* x, int64_t x_stride, __m256i (&sum)[kRows]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_si256();
  // As many units of each run together as fit; a sub-block has four.
  constexpr int kUnits = Dot::MaxUnits(63) < 4 ? Dot::MaxUnits(63) : 4;
  constexpr int kPartsOfHalf = 8 / kUnits;
  for (int part = 0; part < 2 * kPartsOfHalf; ++part) {
    const int h = part / kPartsOfHalf;
    const int first = kUnits * (part % kPartsOfHalf);
    __m256i dot[kRows][4] = {};
    for (int p = first; p < first + kUnits; ++p) {
      __m256i q[4];
      Unpack(block, h, p, q);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        for (int run = 0; run < 4; ++run) {
          const __m256i xu = _mm256_set1_epi32(LoadInt32(x + r * x_stride + 4 * (32 * h + 8 * run + p)));
          dot[r][run] = Dot::Add(dot[r][run], q[run], xu);
        }
      }
    }
    for (int run = 0; run < 4; ++run) {
      const __m256i scale = Dot::ScaleOperand(Scale(block, 8 * h + 2 * run + first / 4));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r] = _mm256_add_epi32(sum[r], Dot::Scaled(dot[r][run], scale));
    }
  }
}

template <typename Dot>
struct MatMulQ6_KKernel {
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
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      if (row == 0) PrefetchAfter<kBlockBytes>(block);
      const Float16Rows d = LoadHalves(block + kFactor);
      int32_t sum_pairs[kRows][8];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) PackPairs<16>(sum16 + r * (cols / 16), sum_pairs[r]);
#pragma GCC unroll 8
      for (int h = 0; h < 2; ++h) {
        __m256i dots[kRows];
        ScaledDots<Dot, kRows>(block + 32 * h, x, cols, dots);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m256i offset = _mm256_slli_epi32(ScaledSums(block + 32 * h, sum_pairs[r]), 5);
          const __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(dots[r], offset));
          const __m256 xs = _mm256_broadcast_ss(scale + r * blocks + b);
          acc[r].half[h] = _mm256_fmadd_ps(_mm256_mul_ps(d.half[h], xs), sum, acc[r].half[h]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace
}  // namespace tandem::engine
