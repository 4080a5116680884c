// Q8_0 on AVX2 and AVX-VNNI. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/dot.h"

namespace tandem::engine {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.h) is faster.
constexpr int kManyRows = 12;

template <typename Dot>
struct MatMulQ8_0Kernel {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    static_assert(kGroups == 1);
    constexpr int kBlock = 32;
    constexpr int kBlockBytes = kRowGroup * (2 + kBlock);
    const int64_t cols = args.weights.cols;
    const int64_t blocks = cols / kBlock;
    const std::byte* block = args.weights.data + group * args.weights.group_bytes;
    const int8_t* x = args.x.q + row * cols;
    const int32_t* sum16 = args.x.sum16 + row * (cols / 16);
    const float* scale = args.x.scale + row * blocks;
    Float16Rows acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock, sum16 += 2) {
      const std::byte* w = block + 2 * kRowGroup;
      __m256i dot[kRows][2];
      for (int r = 0; r < kRows; ++r) {
        const int32_t* sums = sum16 + r * (cols / 16);
        dot[r][0] = dot[r][1] = _mm256_set1_epi32(-Dot::kSignedBias * (sums[0] + sums[1]));
      }
      for (int u = 0; u < kBlock / 4; ++u) {
#pragma GCC unroll 8
        for (int h = 0; h < 2; ++h) {
          const __m256i weights = Dot::Signed(Load256(w + 64 * u + 32 * h));
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const __m256i xu = _mm256_set1_epi32(LoadInt32(x + r * cols + 4 * u));
            dot[r][h] = Dot::AddSigned(dot[r][h], weights, xu);
          }
        }
      }
      const Float16Rows d = LoadHalves(block);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256 xs = _mm256_broadcast_ss(scale + r * blocks + b);
#pragma GCC unroll 8
        for (int h = 0; h < 2; ++h) {
          acc[r].half[h] = _mm256_fmadd_ps(_mm256_mul_ps(d.half[h], xs), _mm256_cvtepi32_ps(dot[r][h]), acc[r].half[h]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace
}  // namespace tandem::engine
