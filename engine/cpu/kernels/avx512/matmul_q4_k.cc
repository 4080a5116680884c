#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;
constexpr int kBlockBytes = kRowGroup * (4 + 2 * kSubBlocks + kBlock / 2);

// Sum over j of scale_j * dot_j, for kRows rows of x.
template <int kRows>
inline void ScaledDots(const uint8_t* scales, const uint8_t* w, const int8_t* x, int64_t x_stride,
                       __m512i (&sum)[kRows]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_setzero_si512();
  for (int c = 0; c < kSubBlocks / 2; ++c) {
    __m512i low_dot[kRows] = {};
    __m512i high_dot[kRows] = {};
    for (int u = 0; u < 8; ++u) {
      const __m512i both = Load512(w + (8 * c + u) * 64);
      const __m512i low = _mm512_and_si512(both, nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
      for (int r = 0; r < kRows; ++r) {
        const int8_t* xu = x + r * x_stride + 64 * c + 4 * u;
        low_dot[r] = _mm512_dpbusd_epi32(low_dot[r], low, _mm512_set1_epi32(LoadInt32(xu)));
        high_dot[r] = _mm512_dpbusd_epi32(high_dot[r], high, _mm512_set1_epi32(LoadInt32(xu + 32)));
      }
    }
    const __m512i low_scale = _mm512_cvtepu8_epi32(Load128(scales + 2 * c * kRowGroup));
    const __m512i high_scale = _mm512_cvtepu8_epi32(Load128(scales + (2 * c + 1) * kRowGroup));
    for (int r = 0; r < kRows; ++r) {
      sum[r] = _mm512_add_epi32(sum[r], _mm512_mullo_epi32(low_dot[r], low_scale));
      sum[r] = _mm512_add_epi32(sum[r], _mm512_mullo_epi32(high_dot[r], high_scale));
    }
  }
}

// The mins of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m512i MinPairs(const uint8_t* mins, int i) {
  const __m128i even = Load128(mins + 2 * i * kRowGroup);
  const __m128i odd = Load128(mins + (2 * i + 1) * kRowGroup);
  return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));
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
    __m512 acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      const uint8_t* scales = reinterpret_cast<const uint8_t*>(block + 4 * kRowGroup);
      const uint8_t* mins = scales + kSubBlocks * kRowGroup;
      __m512i dots[kRows];
      ScaledDots<kRows>(scales, mins + kSubBlocks * kRowGroup, x, cols, dots);
      int32_t sum_pairs[kRows][4];
      for (int r = 0; r < kRows; ++r) PackSum32Pairs(sum16 + r * (cols / 16), sum_pairs[r]);
      __m512i min_sums[kRows] = {};
      for (int i = 0; i < kSubBlocks / 2; ++i) {
        const __m512i pairs = MinPairs(mins, i);
        for (int r = 0; r < kRows; ++r) {
          min_sums[r] = _mm512_dpwssd_epi32(min_sums[r], pairs, _mm512_set1_epi32(sum_pairs[r][i]));
        }
      }
      const __m512 d = LoadHalves(block);
      const __m512 dmin = LoadHalves(block + 2 * kRowGroup);
      for (int r = 0; r < kRows; ++r) {
        const __m512 xs = _mm512_set1_ps(scale[r * blocks + b]);
        acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dots[r]), acc[r]);
        acc[r] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xs), _mm512_cvtepi32_ps(min_sums[r]), acc[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulQ4_K(const MatMulArgs& args) { RunGroups<MatMulQ4_KKernel, 1, 4>(args); }

}  // namespace tandem::engine::avx512
