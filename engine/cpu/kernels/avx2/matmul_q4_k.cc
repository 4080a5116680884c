#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;
constexpr int kBlockBytes = kRowGroup * (4 + 2 * kSubBlocks + kBlock / 2);

// 8 unsigned bytes as 8 lanes of two equal int16, the operand of a madd that scales both halves of a lane.
inline __m256i ScalePairs(const uint8_t* p) {
  const __m256i s = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_or_si256(s, _mm256_slli_epi32(s, 16));
}

// Sum over j of scale_j * dot_j, for 8 rows of the group and kRows rows of x.
template <int kRows>
inline void ScaledDots(const uint8_t* scales, const uint8_t* w, const int8_t* x, int64_t x_stride,
                       __m256i (&sum)[kRows]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_si256();
  for (int c = 0; c < kSubBlocks / 2; ++c) {
    // 16 products of at most 15 * 127 in each int16.
    __m256i low_dot[kRows] = {};
    __m256i high_dot[kRows] = {};
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      const __m256i both = Load256(w + (8 * c + u) * 64);
      const __m256i low = _mm256_and_si256(both, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
      for (int r = 0; r < kRows; ++r) {
        const int8_t* xu = x + r * x_stride + 64 * c + 4 * u;
        const __m256i low_x = _mm256_set1_epi32(LoadInt32(xu));
        const __m256i high_x = _mm256_set1_epi32(LoadInt32(xu + 32));
        low_dot[r] = _mm256_add_epi16(low_dot[r], _mm256_maddubs_epi16(low, low_x));
        high_dot[r] = _mm256_add_epi16(high_dot[r], _mm256_maddubs_epi16(high, high_x));
        KeepOrder(low_dot[r]);
        KeepOrder(high_dot[r]);
      }
    }
    const __m256i low_scale = ScalePairs(scales + 2 * c * kRowGroup);
    const __m256i high_scale = ScalePairs(scales + (2 * c + 1) * kRowGroup);
    for (int r = 0; r < kRows; ++r) {
      const __m256i scaled =
          _mm256_add_epi32(_mm256_madd_epi16(low_dot[r], low_scale), _mm256_madd_epi16(high_dot[r], high_scale));
      sum[r] = _mm256_add_epi32(sum[r], scaled);
    }
  }
}

// Sum over j of min_j * sum_j of x, for 8 rows of the group.
inline __m256i ScaledMins(const uint8_t* mins, const int32_t (&sum_pairs)[4]) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < kSubBlocks / 2; ++i) {
    const __m128i even = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(mins + 2 * i * kRowGroup));
    const __m128i odd = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(mins + (2 * i + 1) * kRowGroup));
    const __m256i pairs = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(even, odd));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi32(sum_pairs[i])));
  }
  return sum;
}

struct MatMulQ4_KKernel {
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
      const Float16Rows dmin = LoadHalves(block + 2 * kRowGroup);
      const uint8_t* scales = reinterpret_cast<const uint8_t*>(block + 4 * kRowGroup);
      const uint8_t* mins = scales + kSubBlocks * kRowGroup;
      const uint8_t* w = mins + kSubBlocks * kRowGroup;
      int32_t sum_pairs[kRows][4];
      for (int r = 0; r < kRows; ++r) PackSum32Pairs(sum16 + r * (cols / 16), sum_pairs[r]);
      for (int h = 0; h < 2; ++h) {
        __m256i dots[kRows];
        ScaledDots<kRows>(scales + 8 * h, w + 32 * h, x, cols, dots);
        for (int r = 0; r < kRows; ++r) {
          const __m256 xs = _mm256_broadcast_ss(scale + r * blocks + b);
          const __m256 min_sum = _mm256_cvtepi32_ps(ScaledMins(mins + 8 * h, sum_pairs[r]));
          __m256 a = acc[r].half[h];
          a = _mm256_fmadd_ps(_mm256_mul_ps(d.half[h], xs), _mm256_cvtepi32_ps(dots[r]), a);
          acc[r].half[h] = _mm256_fnmadd_ps(_mm256_mul_ps(dmin.half[h], xs), min_sum, a);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulQ4_K(const MatMulArgs& args) { RunGroups<MatMulQ4_KKernel, 1, 4>(args); }

}  // namespace tandem::engine::avx2
