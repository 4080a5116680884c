#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

struct LoadF32 {
  static constexpr int kBytes = 4;
  static __m512 Load(const std::byte* p) { return _mm512_loadu_ps(p); }
};

struct LoadF16 {
  static constexpr int kBytes = 2;
  static __m512 Load(const std::byte* p) { return LoadHalves(p); }
};

struct LoadBF16 {
  static constexpr int kBytes = 2;
  static __m512 Load(const std::byte* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load256(p)), 16));
  }
};

template <typename Loader>
struct MatMulFloat {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    const int64_t cols = args.weights.cols;
    const int64_t group_bytes = static_cast<int64_t>(args.weights.group_bytes);
    const std::byte* w = args.weights.data + group * group_bytes;
    const float* x = args.x.f32 + row * cols;
    __m512 acc[kGroups][kRows];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[g][r] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < cols; ++k, w += kRowGroup * Loader::kBytes) {
      __m512 values[kGroups];
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        _mm_prefetch(reinterpret_cast<const char*>(w + g * group_bytes) + kPrefetchBytes, _MM_HINT_T0);
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) values[g] = Loader::Load(w + g * group_bytes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 xk = _mm512_set1_ps(x[r * cols + k]);
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) acc[g][r] = _mm512_fmadd_ps(values[g], xk, acc[g][r]);
      }
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) StoreGroup(args, group + g, row + r, acc[g][r]);
    }
  }
};

}  // namespace

void MatMulF32(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF32>, 2, 8>(args); }
void MatMulF16(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF16>, 2, 8>(args); }
void MatMulBF16(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadBF16>, 2, 8>(args); }

}  // namespace tandem::engine::avx512
