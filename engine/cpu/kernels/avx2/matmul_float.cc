#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

struct LoadF32 {
  static constexpr int kBytes = 4;
  static Float16Rows Load(const std::byte* p) {
    const float* w = reinterpret_cast<const float*>(p);
    return {{_mm256_loadu_ps(w), _mm256_loadu_ps(w + 8)}};
  }
};

struct LoadF16 {
  static constexpr int kBytes = 2;
  static Float16Rows Load(const std::byte* p) { return LoadHalves(p); }
};

struct LoadBF16 {
  static constexpr int kBytes = 2;
  static Float16Rows Load(const std::byte* p) { return {{Upper(Load128(p)), Upper(Load128(p + 16))}}; }
  static __m256 Upper(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
};

template <typename Loader>
struct MatMulFloat {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    static_assert(kGroups == 1);
    const int64_t cols = args.weights.cols;
    const std::byte* w = args.weights.data + group * args.weights.group_bytes;
    const float* x = args.x.f32 + row * cols;
    Float16Rows acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r] = ZeroRows();
    for (int64_t k = 0; k < cols; ++k, w += kRowGroup * Loader::kBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(w) + kPrefetchBytes, _MM_HINT_T0);
      const Float16Rows values = Loader::Load(w);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256 xk = _mm256_broadcast_ss(x + r * cols + k);
#pragma GCC unroll 8
        for (int h = 0; h < 2; ++h) acc[r].half[h] = _mm256_fmadd_ps(values.half[h], xk, acc[r].half[h]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulF32(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF32>, 1, 6>(args); }
void MatMulF16(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF16>, 1, 6>(args); }
void MatMulBF16(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadBF16>, 1, 6>(args); }

}  // namespace tandem::engine::avx2
