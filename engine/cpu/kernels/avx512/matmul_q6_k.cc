#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.cc) is faster.
constexpr int kManyRows = 12;

constexpr int kBlock = 256;
constexpr int kSubBlocks = 16;
constexpr int kVector = 4 * kRowGroup;  // bytes of a word of all rows
// Offsets inside a packed block.
constexpr int kUpper = 32 * kVector;
constexpr int kScales = kUpper + 16 * kVector;
constexpr int kFactor = kScales + 4 * kVector;
constexpr int kBlockBytes = kFactor + 2 * kRowGroup;

// The scale of sub-block j.
inline __m512i Scale(const std::byte* block, int j) {
  const __m512i words = Load512(block + kScales + j / 4 * kVector);
  return _mm512_srai_epi32(_mm512_slli_epi32(words, static_cast<unsigned>(24 - 8 * (j % 4))), 24);
}

// The scales of sub-blocks 2i and 2i + 1 as int16 pairs, one pair a row.
inline __m512i ScalePairs(const std::byte* block, int i) {
  const __m512i words =
      _mm512_srli_epi32(Load512(block + kScales + i / 2 * kVector), static_cast<unsigned>(16 * (i % 2)));
  const __m512i even = _mm512_and_si512(_mm512_slli_epi32(words, 8), _mm512_set1_epi32(0xff00));
  const __m512i odd = _mm512_and_si512(_mm512_slli_epi32(words, 16), _mm512_set1_epi32(~0xffffff));
  return _mm512_srai_epi16(_mm512_or_si512(even, odd), 8);
}

// The values 0..63 of unit p of the four runs of half h.
inline void Unpack(const std::byte* block, int h, int p, __m512i (&q)[4]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i pair = _mm512_set1_epi8(0x30);
  const __m512i low0 = Load512(block + (16 * h + p) * kVector);
  const __m512i low1 = Load512(block + (16 * h + 8 + p) * kVector);
  const __m512i top = Load512(block + kUpper + (8 * h + p) * kVector);
  q[0] = _mm512_or_si512(_mm512_and_si512(low0, nibble), _mm512_and_si512(_mm512_slli_epi16(top, 4), pair));
  q[1] = _mm512_or_si512(_mm512_and_si512(low1, nibble), _mm512_and_si512(_mm512_slli_epi16(top, 2), pair));
  q[2] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low0, 4), nibble), _mm512_and_si512(top, pair));
  q[3] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low1, 4), nibble),
                         _mm512_and_si512(_mm512_srli_epi16(top, 2), pair));
}

// Sum over j of scale_j * dot of q and x, for kRows rows of x.
template <int kRows>
inline void ScaledDots(const std::byte* block, const int8_t* x, int64_t x_stride, __m512i (&sum)[kRows]) {
  // Half a run at a time: four units of each of the four runs of a half are four sub-blocks.
  for (int part = 0; part < 4; ++part) {
    const int h = part / 2;
    const int first = 4 * (part % 2);
    __m512i dot[kRows][4] = {};
#pragma GCC unroll 4
    for (int p = first; p < first + 4; ++p) {
      __m512i q[4];
      Unpack(block, h, p, q);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        for (int run = 0; run < 4; ++run) {
          const __m512i xu = _mm512_set1_epi32(LoadInt32(x + r * x_stride + 4 * (32 * h + 8 * run + p)));
          dot[r][run] = _mm512_dpbusd_epi32(dot[r][run], q[run], xu);
        }
      }
    }
    __m512i scale[4];
    for (int run = 0; run < 4; ++run) scale[run] = Scale(block, 8 * h + 2 * run + part % 2);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      __m512i scaled = _mm512_mullo_epi32(dot[r][0], scale[0]);
      for (int run = 1; run < 4; ++run) {
        scaled = _mm512_add_epi32(scaled, _mm512_mullo_epi32(dot[r][run], scale[run]));
      }
      sum[r] = part == 0 ? scaled : _mm512_add_epi32(sum[r], scaled);
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
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += kBlock / 16) {
      if (row == 0) PrefetchAfter<kBlockBytes>(block);
      __m512i dots[kRows];
      ScaledDots<kRows>(block, x, cols, dots);
      int32_t sum_pairs[kRows][8];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) PackPairs<16>(sum16 + r * (cols / 16), sum_pairs[r]);
      // What the offset of 32 adds 32 times too much.
      __m512i offsets[kRows] = {};
      for (int i = 0; i < kSubBlocks / 2; ++i) {
        const __m512i pairs = ScalePairs(block, i);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          offsets[r] = _mm512_dpwssd_epi32(offsets[r], pairs, _mm512_set1_epi32(sum_pairs[r][i]));
        }
      }
      const __m512 d = LoadHalves(block + kFactor);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i sum = _mm512_sub_epi32(dots[r], _mm512_slli_epi32(offsets[r], 5));
        const __m512 scaled = _mm512_mul_ps(d, _mm512_set1_ps(scale[r * blocks + b]));
        acc[r] = _mm512_fmadd_ps(scaled, _mm512_cvtepi32_ps(sum), acc[r]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulQ6_K(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ6_K>(args);
  RunGroups<MatMulQ6_KKernel, 1, 4>(args);
}

}  // namespace tandem::engine::avx512
