#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// From so many tokens on, expanding the weights once for all (matmul_planes.cc) is faster.
constexpr int kManyRows = 12;

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
    const float* scale = args.x.scale + row * blocks;
    const __m256i ones = _mm256_set1_epi16(1);
    Float16Rows acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes, x += kBlock) {
      const std::byte* w = block + 2 * kRowGroup;
      __m256i dot[kRows][2] = {};
      for (int u = 0; u < kBlock / 4; ++u) {
#pragma GCC unroll 8
        for (int h = 0; h < 2; ++h) {
          // |w| * (x with the sign of w): |w| <= 128 and |x| <= 127, so two products fit int16 and nothing saturates.
          const __m256i values = Load256(w + 64 * u + 32 * h);
          const __m256i magnitude = _mm256_abs_epi8(values);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const __m256i xu = _mm256_set1_epi32(LoadInt32(x + r * cols + 4 * u));
            const __m256i products = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(xu, values));
            dot[r][h] = _mm256_add_epi32(dot[r][h], _mm256_madd_epi16(products, ones));
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

void MatMulQ8_0(const MatMulArgs& args) {
  if (args.rows >= kManyRows) return MatMulPlanes<TensorType::kQ8_0>(args);
  RunGroups<MatMulQ8_0Kernel, 1, 4>(args);
}

}  // namespace tandem::engine::avx2
