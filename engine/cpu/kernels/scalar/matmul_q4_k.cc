#include <cmath>

#include "engine/cpu/kernels/kernels.h"
#include "engine/cpu/kernels/scalar/scalar_common.h"

namespace tandem::engine::scalar {
namespace {

constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;
constexpr int kBlockBytes = kRowGroup * (4 + 2 * kSubBlocks + kBlock / 2);

// Sum over the sub-blocks of scale * dot (`*scaled`) and of min * sum of x (`*mins`) for one row of the group.
void BlockSums(const std::byte* block, int lane, const int8_t* x, const int32_t* sum16, int32_t* scaled,
               int32_t* mins) {
  const uint8_t* scales = reinterpret_cast<const uint8_t*>(block + 4 * kRowGroup);
  const uint8_t* sub_mins = scales + kSubBlocks * kRowGroup;
  const uint8_t* w = sub_mins + kSubBlocks * kRowGroup;
  *scaled = 0;
  *mins = 0;
  for (int j = 0; j < kSubBlocks; ++j) {
    const int shift = 4 * (j % 2);  // even sub-blocks in the low nibbles, odd ones in the high
    int32_t dot = 0;
    for (int u = 0; u < 8; ++u) {
      for (int i = 0; i < 4; ++i) {
        const int q = w[((j / 2 * 8 + u) * kRowGroup + lane) * 4 + i] >> shift & 15;
        dot += q * x[32 * j + 4 * u + i];
      }
    }
    *scaled += scales[j * kRowGroup + lane] * dot;
    *mins += sub_mins[j * kRowGroup + lane] * (sum16[2 * j] + sum16[2 * j + 1]);
  }
}

}  // namespace

void MatMulQ4_K(const MatMulArgs& args) {
  const int64_t blocks = args.weights.cols / kBlock;
  for (int64_t g = args.group_begin; g < args.group_end; ++g) {
    for (int row = 0; row < args.rows; ++row) {
      const int8_t* x = args.x.q + row * args.weights.cols;
      const int32_t* sum16 = args.x.sum16 + row * (args.weights.cols / 16);
      const float* scale = args.x.scale + row * blocks;
      const std::byte* block = args.weights.data + g * args.weights.group_bytes;
      float acc[kRowGroup] = {};
      for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes) {
        for (int lane = 0; lane < kRowGroup; ++lane) {
          int32_t scaled;
          int32_t mins;
          BlockSums(block, lane, x + b * kBlock, sum16 + b * (kBlock / 16), &scaled, &mins);
          const float d = LoadHalf(block, lane) * scale[b];
          const float dmin = LoadHalf(block, kRowGroup + lane) * scale[b];
          acc[lane] = std::fma(d, static_cast<float>(scaled), acc[lane]);
          acc[lane] = std::fma(-dmin, static_cast<float>(mins), acc[lane]);
        }
      }
      StoreGroup(args, g, row, acc);
    }
  }
}

}  // namespace tandem::engine::scalar
