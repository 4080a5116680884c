#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

struct MatMulQ8_0Kernel {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    constexpr int kBlock = 32;
    constexpr int kBlockBytes = kRowGroup * (2 + kBlock);
    const int64_t cols = args.weights.cols;
    const int64_t blocks = cols / kBlock;
    const int64_t group_bytes = static_cast<int64_t>(args.weights.group_bytes);
    const std::byte* block = args.weights.data + group * group_bytes;
    const int8_t* x = args.x.q + row * cols;
    const int32_t* sum16 = args.x.sum16 + row * (cols / 16);
    const float* scale = args.x.scale + row * blocks;
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512 acc[kGroups][kRows];
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += 2) {
      // The instruction wants unsigned weights: w + 128, and the dot product starts at what that adds too much.
      __m512i dot[kGroups][kRows];
      for (int r = 0; r < kRows; ++r) {
        const int32_t* sums = sum16 + r * (cols / 16);
        for (int g = 0; g < kGroups; ++g) dot[g][r] = _mm512_set1_epi32(-128 * (sums[0] + sums[1]));
      }
#pragma GCC unroll 8
      for (int u = 0; u < kBlock / 4; ++u) {
        __m512i w[kGroups];
        for (int g = 0; g < kGroups; ++g) {
          w[g] = _mm512_xor_si512(Load512(block + g * group_bytes + 2 * kRowGroup + 64 * u), flip);
        }
        for (int r = 0; r < kRows; ++r) {
          const __m512i xu = _mm512_set1_epi32(LoadInt32(x + r * cols + 4 * u));
          for (int g = 0; g < kGroups; ++g) dot[g][r] = _mm512_dpbusd_epi32(dot[g][r], w[g], xu);
        }
      }
      for (int g = 0; g < kGroups; ++g) {
        const __m512 d = LoadHalves(block + g * group_bytes);
        for (int r = 0; r < kRows; ++r) {
          const __m512 xs = _mm512_set1_ps(scale[r * blocks + b]);
          acc[g][r] = _mm512_fmadd_ps(_mm512_mul_ps(d, xs), _mm512_cvtepi32_ps(dot[g][r]), acc[g][r]);
        }
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) StoreGroup(args, group + g, row + r, acc[g][r]);
    }
  }
};

}  // namespace

void MatMulQ8_0(const MatMulArgs& args) { RunGroups<MatMulQ8_0Kernel, 2, 4>(args); }

}  // namespace tandem::engine::avx512
