#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;
// Offsets inside a packed block.
constexpr int kScales = 4 * kRowGroup;
constexpr int kMins = kScales + kSubBlocks * kRowGroup;
constexpr int kVectors = kMins + kSubBlocks * kRowGroup;
constexpr int kBlockBytes = kVectors + kBlock / 2 * kRowGroup;

// Sum over j of scale_j * dot_j, for kGroups groups, whose blocks lie group_bytes apart, and kRows rows of x.
template <int kGroups, int kRows>
inline void ScaledDots(const std::byte* block, int64_t group_bytes, const int8_t* x, int64_t x_stride,
                       __m512i (&sum)[kGroups][kRows]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int c = 0; c < kSubBlocks / 2; ++c) {
    __m512i low_dot[kGroups][kRows] = {};
    __m512i high_dot[kGroups][kRows] = {};
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      __m512i low[kGroups];
      __m512i high[kGroups];
      for (int g = 0; g < kGroups; ++g) {
        const __m512i both = Load512(block + g * group_bytes + kVectors + (8 * c + u) * 64);
        low[g] = _mm512_and_si512(both, nibble);
        high[g] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
      }
      for (int r = 0; r < kRows; ++r) {
        const int8_t* xu = x + r * x_stride + 64 * c + 4 * u;
        const __m512i low_x = _mm512_set1_epi32(LoadInt32(xu));
        const __m512i high_x = _mm512_set1_epi32(LoadInt32(xu + 32));
        for (int g = 0; g < kGroups; ++g) {
          low_dot[g][r] = _mm512_dpbusd_epi32(low_dot[g][r], low[g], low_x);
          high_dot[g][r] = _mm512_dpbusd_epi32(high_dot[g][r], high[g], high_x);
        }
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      const std::byte* scales = block + g * group_bytes + kScales + 2 * c * kRowGroup;
      const __m512i low_scale = _mm512_cvtepu8_epi32(Load128(scales));
      const __m512i high_scale = _mm512_cvtepu8_epi32(Load128(scales + kRowGroup));
      for (int r = 0; r < kRows; ++r) {
        const __m512i scaled = _mm512_add_epi32(_mm512_mullo_epi32(low_dot[g][r], low_scale),
                                                _mm512_mullo_epi32(high_dot[g][r], high_scale));
        sum[g][r] = c == 0 ? scaled : _mm512_add_epi32(sum[g][r], scaled);
      }
    }
  }
}

// The mins of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m512i MinPairs(const std::byte* mins, int i) {
  const __m128i even = Load128(mins + 2 * i * kRowGroup);
  const __m128i odd = Load128(mins + (2 * i + 1) * kRowGroup);
  return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));
}

struct MatMulQ4_KKernel {
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
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      __m512i dots[kGroups][kRows];
      ScaledDots<kGroups, kRows>(block, group_bytes, x, cols, dots);
      int32_t sum_pairs[kRows][4];
      for (int r = 0; r < kRows; ++r) PackSum32Pairs(sum16 + r * (cols / 16), sum_pairs[r]);
      for (int g = 0; g < kGroups; ++g) {
        const std::byte* own = block + g * group_bytes;
        __m512i min_sums[kRows] = {};
        for (int i = 0; i < kSubBlocks / 2; ++i) {
          const __m512i pairs = MinPairs(own + kMins, i);
          for (int r = 0; r < kRows; ++r) {
            min_sums[r] = _mm512_dpwssd_epi32(min_sums[r], pairs, _mm512_set1_epi32(sum_pairs[r][i]));
          }
        }
        const __m512 d = LoadHalves(own);
        const __m512 dmin = LoadHalves(own + 2 * kRowGroup);
        for (int r = 0; r < kRows; ++r) {
          const __m512 xs = _mm512_set1_ps(scale[r * blocks + b]);
          acc[g][r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dots[g][r]), acc[g][r]);
          acc[g][r] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xs), _mm512_cvtepi32_ps(min_sums[r]), acc[g][r]);
        }
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) StoreGroup(args, group + g, row + r, acc[g][r]);
    }
  }
};

}  // namespace

void MatMulQ4_K(const MatMulArgs& args) { RunGroups<MatMulQ4_KKernel, 2, 2>(args); }

}  // namespace tandem::engine::avx512
