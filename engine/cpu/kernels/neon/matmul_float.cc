#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/neon/simd.h"

namespace tandem::engine::neon {
namespace {

// How a quad of elements is read.
struct LoadF32 {
  static constexpr int kBytes = 4;
  static float32x4_t Load(const std::byte* p) { return vld1q_f32(reinterpret_cast<const float*>(p)); }
};

struct LoadF16 {
  static constexpr int kBytes = 2;
  static float32x4_t Load(const std::byte* p) { return LoadHalves(p); }
};

struct LoadBF16 {
  static constexpr int kBytes = 2;
  static float32x4_t Load(const std::byte* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p)), 16));
  }
};

template <typename Loader>
struct MatMulFloat {
  template <int kGroups, int kRows>
  static void Run(const MatMulArgs& args, int64_t group, int row) {
    const int64_t cols = args.weights.cols;
    const std::byte* w = args.weights.data + group * args.weights.group_bytes;
    const float* x = args.x.f32 + row * cols;
    Float16Rows acc[kGroups][kRows];
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) acc[g][r] = ZeroRows();
    }
    for (int64_t k = 0; k < cols; ++k, w += kRowGroup * Loader::kBytes) {
      for (int g = 0; g < kGroups; ++g) {
        for (int q = 0; q < kQuads; ++q) {
          const float32x4_t values = Loader::Load(w + g * args.weights.group_bytes + 4 * q * Loader::kBytes);
          for (int r = 0; r < kRows; ++r) acc[g][r].quad[q] = vfmaq_n_f32(acc[g][r].quad[q], values, x[r * cols + k]);
        }
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < kRows; ++r) StoreGroup(args, group + g, row + r, acc[g][r]);
    }
  }
};

// A single token has too few chains to fill the pipelines: it takes two groups at a time.
template <typename Loader>
inline void RunFloat(const MatMulArgs& args) {
  if (args.rows == 1) {
    RunGroups<MatMulFloat<Loader>, 2, 1>(args);
  } else {
    RunGroups<MatMulFloat<Loader>, 1, 4>(args);
  }
}

}  // namespace

void MatMulF32(const MatMulArgs& args) { RunFloat<LoadF32>(args); }
void MatMulF16(const MatMulArgs& args) { RunFloat<LoadF16>(args); }
void MatMulBF16(const MatMulArgs& args) { RunFloat<LoadBF16>(args); }

}  // namespace tandem::engine::neon
