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

template <typename Loader>
struct MatMulFloat {
  template <int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    const int64_t cols = args.weights.cols;
    const std::byte* w = args.weights.data + group * args.weights.group_bytes;
    const float* x = args.x.f32 + row * cols;
    __m512 acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
    for (int64_t k = 0; k < cols; ++k, w += kRowGroup * Loader::kBytes) {
      const __m512 values = Loader::Load(w);
      for (int r = 0; r < kRows; ++r) acc[r] = _mm512_fmadd_ps(values, _mm512_set1_ps(x[r * cols + k]), acc[r]);
    }
    for (int r = 0; r < kRows; ++r) StoreGroup(args, group, row + r, acc[r]);
  }
};

}  // namespace

void MatMulF32(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF32>, 8>(args); }
void MatMulF16(const MatMulArgs& args) { RunGroups<MatMulFloat<LoadF16>, 8>(args); }

}  // namespace tandem::engine::avx512
