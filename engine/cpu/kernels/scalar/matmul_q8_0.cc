#include <cmath>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"

namespace tandem::engine::scalar {

void MatMulQ8_0(const MatMulArgs& args) {
  constexpr int kBlock = 32;
  constexpr int kUnits = kBlock / 4;
  constexpr int kBlockBytes = kRowGroup * (2 + kBlock);
  const int64_t blocks = args.weights.cols / kBlock;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    for (int row = 0; row < args.rows; ++row) {
      const int8_t* x = args.x.q + row * args.weights.cols;
      const float* scale = args.x.scale + row * blocks;
      const std::byte* block = args.weights.data + g * args.weights.group_bytes;
      float acc[kRowGroup] = {};
      for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes) {
        const int8_t* w = reinterpret_cast<const int8_t*>(block + 2 * kRowGroup);
        for (int lane = 0; lane < kRowGroup; ++lane) {
          int32_t dot = 0;
          for (int u = 0; u < kUnits; ++u) {
            for (int i = 0; i < 4; ++i) dot += w[(u * kRowGroup + lane) * 4 + i] * x[b * kBlock + 4 * u + i];
          }
          acc[lane] = std::fma(LoadHalf(block, lane) * scale[b], static_cast<float>(dot), acc[lane]);
        }
      }
      StoreGroup(args, g, row, acc);
    }
  }
}

}  // namespace tandem::engine::scalar
