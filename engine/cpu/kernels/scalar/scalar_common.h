// Helpers of the scalar matmuls.
#pragma once

#include <algorithm>

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine::scalar {

// Writes the 16 results of one group and token, leaving out the padding rows of the last group.
inline void StoreGroup(const MatMulArgs& args, int64_t group, int row, const float* acc) {
  const int64_t first = group * kRowGroup;
  const int64_t count = std::min<int64_t>(kRowGroup, args.weights.rows - first);
  std::copy_n(acc, count, args.out + row * args.out_stride + first);
}

}  // namespace tandem::engine::scalar
