// Helpers of the scalar kernels.
#pragma once

#include <algorithm>
#include <cmath>

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine::scalar {

// Writes the 16 results of one group and token, leaving out the padding rows of the last group.
inline void StoreGroup(const MatMulArgs& args, int64_t group, int row, const float* acc) {
  const int64_t first = group * kRowGroup;
  const int64_t count = std::min<int64_t>(kRowGroup, args.weights.rows - first);
  std::copy_n(acc, count, args.out + row * args.out_stride + first);
}

// The fold 8, 4, 2, 1 of 16 partial sums, in place.
inline float Fold16(float* p) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) p[i] += p[i + half];
  }
  return p[0];
}

// What rms_norm multiplies by: 1 / sqrt(mean(x^2) + eps).
inline float InverseRms(const float* x, int64_t n, float eps) {
  float partial[16] = {};
  for (int64_t i = 0; i < n; ++i) partial[i % 16] = std::fma(x[i], x[i], partial[i % 16]);
  return 1.0f / std::sqrt(Fold16(partial) / static_cast<float>(n) + eps);
}

}  // namespace tandem::engine::scalar
