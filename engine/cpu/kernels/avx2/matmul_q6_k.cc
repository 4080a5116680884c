#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 16;
constexpr int kBlockBytes = kRowGroup * (2 + kSubBlocks + kBlock / 2 + kBlock / 4);

// 8 signed bytes as 8 lanes of two equal int16, the operand of a madd that scales both halves of a lane.
inline __m256i ScalePairs(const int8_t* p) {
  const __m256i s = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_blend_epi16(s, _mm256_slli_epi32(s, 16), 0xaa);
}

// Sum over j of scale_j * sum_j of x, for 8 rows of the group: what the offset of 32 adds 32 times too much.
inline __m256i ScaledSums(const int8_t* scales, const int32_t (&sum_pairs)[8]) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < kSubBlocks / 2; ++i) {
    const __m128i even = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + 2 * i * kRowGroup));
    const __m128i odd = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + (2 * i + 1) * kRowGroup));
    const __m256i pairs = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(even, odd));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi32(sum_pairs[i])));
  }
  return sum;
}

// Sum over j of scale_j * dot of q and x, q = 0..63, for 8 rows of the group and kRows rows of x.
template <int kRows>
inline void ScaledDots(const int8_t* scales, const uint8_t* w, const int8_t* x, int64_t x_stride,
                       __m256i (&sum)[kRows]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i pair = _mm256_set1_epi8(0x30);
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_si256();
  // Triples t and t + 1 together: 4 products of at most 63 * 127 fit an int16. Units t + 16 s are in sub-block
  // t / 4 + 4 s.
  for (int t = 0; t < 16; t += 2) {
    __m256i dot[kRows][4] = {};
    for (int v = t; v < t + 2; ++v) {
      const __m256i low0 = Load256(w + 3 * v * 64);
      const __m256i low1 = Load256(w + (3 * v + 1) * 64);
      const __m256i top = Load256(w + (3 * v + 2) * 64);
      const __m256i q[4] = {
          _mm256_or_si256(_mm256_and_si256(low0, nibble), _mm256_and_si256(_mm256_slli_epi16(top, 4), pair)),
          _mm256_or_si256(_mm256_and_si256(low1, nibble), _mm256_and_si256(_mm256_slli_epi16(top, 2), pair)),
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(low0, 4), nibble), _mm256_and_si256(top, pair)),
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(low1, 4), nibble),
                          _mm256_and_si256(_mm256_srli_epi16(top, 2), pair))};
      for (int r = 0; r < kRows; ++r) {
        for (int s = 0; s < 4; ++s) {
          const __m256i xu = _mm256_set1_epi32(LoadInt32(x + r * x_stride + 4 * (v + 16 * s)));
          dot[r][s] = _mm256_add_epi16(dot[r][s], _mm256_maddubs_epi16(q[s], xu));
        }
      }
    }
    for (int s = 0; s < 4; ++s) {
      const __m256i scale = ScalePairs(scales + (t / 4 + 4 * s) * kRowGroup);
      for (int r = 0; r < kRows; ++r) sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(dot[r][s], scale));
    }
  }
}

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
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      const Float16Rows d = LoadHalves(block);
      const int8_t* scales = reinterpret_cast<const int8_t*>(block + 2 * kRowGroup);
      const uint8_t* w = reinterpret_cast<const uint8_t*>(scales + kSubBlocks * kRowGroup);
      int32_t sum_pairs[kRows][8];
      for (int r = 0; r < kRows; ++r) PackSumPairs(sum16 + r * (cols / 16), sum_pairs[r]);
      for (int h = 0; h < 2; ++h) {
        __m256i dots[kRows];
        ScaledDots<kRows>(scales + 8 * h, w + 32 * h, x, cols, dots);
        for (int r = 0; r < kRows; ++r) {
          const __m256i offset = _mm256_slli_epi32(ScaledSums(scales + 8 * h, sum_pairs[r]), 5);
          const __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(dots[r], offset));
          const __m256 xs = _mm256_broadcast_ss(scale + r * blocks + b);
          acc[r].half[h] = _mm256_fmadd_ps(_mm256_mul_ps(d.half[h], xs), sum, acc[r].half[h]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulQ6_K(const MatMulArgs& args) { RunGroups<MatMulQ6_KKernel, 1, 4>(args); }

}  // namespace tandem::engine::avx2
