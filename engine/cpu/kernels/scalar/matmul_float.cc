#include <bit>
#include <cmath>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

inline float FromF32(float value) { return value; }
inline float FromBf16(uint16_t upper) { return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16); }

// W: how an element is stored.
template <typename W, float (*kToFloat)(W)>
void MatMulFloat(const MatMulArgs& args) {
  const int64_t cols = args.weights.cols;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    const W* w = reinterpret_cast<const W*>(args.weights.data + g * args.weights.group_bytes);
    for (int row = 0; row < args.rows; ++row) {
      const float* x = args.x.f32 + row * cols;
      float acc[kRowGroup] = {};
      for (int64_t k = 0; k < cols; ++k) {
        for (int lane = 0; lane < kRowGroup; ++lane) {
          acc[lane] = std::fma(kToFloat(w[k * kRowGroup + lane]), x[k], acc[lane]);
        }
      }
      StoreGroup(args, g, row, acc);
    }
  }
}

}  // namespace

void MatMulF32(const MatMulArgs& args) { MatMulFloat<float, FromF32>(args); }
void MatMulF16(const MatMulArgs& args) { MatMulFloat<uint16_t, HalfToFloat>(args); }
void MatMulBF16(const MatMulArgs& args) { MatMulFloat<uint16_t, FromBf16>(args); }

}  // namespace tandem::engine::scalar
