#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 16;
// Offsets inside a packed block.
constexpr int kScales = 2 * kRowGroup;
constexpr int kVectors = kScales + kSubBlocks * kRowGroup;
constexpr int kBlockBytes = kVectors + (kBlock / 2 + kBlock / 4) * kRowGroup;

// The scales of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m512i ScalePairs(const std::byte* scales, int i) {
  const __m128i even = Load128(scales + 2 * i * kRowGroup);
  const __m128i odd = Load128(scales + (2 * i + 1) * kRowGroup);
  return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));
}

// The values 0..63 of units t, t + 16, t + 32 and t + 48, from their triple of vectors.
inline void Unpack(const std::byte* w, __m512i (&q)[4]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i pair = _mm512_set1_epi8(0x30);
  const __m512i low0 = Load512(w);
  const __m512i low1 = Load512(w + 64);
  const __m512i top = Load512(w + 128);
  q[0] = _mm512_or_si512(_mm512_and_si512(low0, nibble), _mm512_and_si512(_mm512_slli_epi16(top, 4), pair));
  q[1] = _mm512_or_si512(_mm512_and_si512(low1, nibble), _mm512_and_si512(_mm512_slli_epi16(top, 2), pair));
  q[2] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low0, 4), nibble), _mm512_and_si512(top, pair));
  q[3] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low1, 4), nibble),
                         _mm512_and_si512(_mm512_srli_epi16(top, 2), pair));
}

// Sum over j of scale_j * dot of q and x, for kRows rows of x.
template <int kRows>
inline void ScaledDots(const std::byte* block, const int8_t* x, int64_t x_stride, __m512i (&sum)[kRows]) {
  // Four triples at a time: their units t + 16 s make up sub-block t / 4 + 4 s.
  for (int t = 0; t < 16; t += 4) {
    __m512i dot[kRows][4] = {};
#pragma GCC unroll 4
    for (int v = t; v < t + 4; ++v) {
      __m512i q[4];
      Unpack(block + kVectors + 3 * v * 64, q);
      for (int r = 0; r < kRows; ++r) {
        for (int s = 0; s < 4; ++s) {
          const __m512i xu = _mm512_set1_epi32(LoadInt32(x + r * x_stride + 4 * (v + 16 * s)));
          dot[r][s] = _mm512_dpbusd_epi32(dot[r][s], q[s], xu);
        }
      }
    }
    __m512i scale[4];
    for (int s = 0; s < 4; ++s) scale[s] = _mm512_cvtepi8_epi32(Load128(block + kScales + (t / 4 + 4 * s) * kRowGroup));
    for (int r = 0; r < kRows; ++r) {
      __m512i scaled = _mm512_mullo_epi32(dot[r][0], scale[0]);
      for (int s = 1; s < 4; ++s) scaled = _mm512_add_epi32(scaled, _mm512_mullo_epi32(dot[r][s], scale[s]));
      sum[r] = t == 0 ? scaled : _mm512_add_epi32(sum[r], scaled);
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
    __m512 acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      __m512i dots[kRows];
      ScaledDots<kRows>(block, x, cols, dots);
      int32_t sum_pairs[kRows][8];
      for (int r = 0; r < kRows; ++r) PackSumPairs(sum16 + r * (cols / 16), sum_pairs[r]);
      // What the offset of 32 adds 32 times too much.
      __m512i offsets[kRows] = {};
      for (int i = 0; i < kSubBlocks / 2; ++i) {
        const __m512i pairs = ScalePairs(block + kScales, i);
        for (int r = 0; r < kRows; ++r) {
          offsets[r] = _mm512_dpwssd_epi32(offsets[r], pairs, _mm512_set1_epi32(sum_pairs[r][i]));
        }
      }
      const __m512 d = LoadHalves(block);
      for (int r = 0; r < kRows; ++r) {
        const __m512i sum = _mm512_sub_epi32(dots[r], _mm512_slli_epi32(offsets[r], 5));
        const __m512 scaled = _mm512_mul_ps(d, _mm512_set1_ps(scale[r * blocks + b]));
        acc[r] = _mm512_fmadd_ps(scaled, _mm512_cvtepi32_ps(sum), acc[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulQ6_K(const MatMulArgs& args) { RunGroups<MatMulQ6_KKernel, 1, 4>(args); }

}  // namespace tandem::engine::avx512
