#include <cmath>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"

namespace tandem::engine::scalar {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 16;
constexpr int kBlockBytes = kRowGroup * (2 + kSubBlocks + kBlock / 2 + kBlock / 4);

// Sum over the 16 sub-blocks of scale * dot of (q - 32) and x, for one row of the group.
int32_t BlockSum(const std::byte* block, int lane, const int8_t* x) {
  const int8_t* scales = reinterpret_cast<const int8_t*>(block + 2 * kRowGroup);
  const uint8_t* vectors = reinterpret_cast<const uint8_t*>(scales) + kSubBlocks * kRowGroup;
  int32_t sum = 0;
  for (int j = 0; j < kSubBlocks; ++j) {
    int32_t dot = 0;
    for (int unit = 4 * j; unit < 4 * j + 4; ++unit) {
      for (int i = 0; i < 4; ++i) {
        const int low = 3 * (unit % 16) + unit / 16 % 2;  // vectors
        const int top = 3 * (unit % 16) + 2;
        const int nibble = vectors[(low * kRowGroup + lane) * 4 + i] >> (4 * (unit / 32)) & 15;
        const int pair = vectors[(top * kRowGroup + lane) * 4 + i] >> (2 * (unit / 16)) & 3;
        dot += ((nibble | pair << 4) - 32) * x[4 * unit + i];
      }
    }
    sum += scales[j * kRowGroup + lane] * dot;
  }
  return sum;
}

}  // namespace

void MatMulQ6_K(const MatMulArgs& args) {
  const int64_t blocks = args.weights.cols / kBlock;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    for (int row = 0; row < args.rows; ++row) {
      const int8_t* x = args.x.q + row * args.weights.cols;
      const float* scale = args.x.scale + row * blocks;
      const std::byte* block = args.weights.data + g * args.weights.group_bytes;
      float acc[kRowGroup] = {};
      for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes) {
        for (int lane = 0; lane < kRowGroup; ++lane) {
          const int32_t sum = BlockSum(block, lane, x + b * kBlock);
          acc[lane] = std::fma(LoadHalf(block, lane) * scale[b], static_cast<float>(sum), acc[lane]);
        }
      }
      StoreGroup(args, g, row, acc);
    }
  }
}

}  // namespace tandem::engine::scalar
