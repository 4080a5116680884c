#include "engine/cache/int4_block.h"

#include <algorithm>
#include <cmath>

#include "engine/quant/block_format.h"

namespace tandem::engine {

uint16_t QuantizeToInt4(const float* x, int8_t* q) {
  constexpr float kLargestHalf = 65504;
  constexpr float kRound = 12582912;  // 1.5 * 2^23: what is added to it is rounded to an integer
  float extreme = 0;
  for (int32_t i = 0; i < kKvBlock; ++i) extreme = std::fabs(x[i]) > std::fabs(extreme) ? x[i] : extreme;
  const uint16_t half = FloatToHalf(std::clamp(extreme / -8, -kLargestHalf, kLargestHalf));
  const float d = HalfToFloat(half);
  const float inverse = d == 0 ? 0 : 1 / d;
  for (int32_t i = 0; i < kKvBlock; ++i) {
    float value = x[i] * inverse;
    value = value > -8 ? value : -8;  // NaN as well
    value = value < 7 ? value : 7;
    q[i] = static_cast<int8_t>((value + kRound) - kRound);
  }
  return half;
}

void JoinNibbles(int32_t near, int8_t* q) {
  for (int32_t i = 0; i < kKvBlock / 2; ++i) {
    const int32_t low = i / near * 2 * near + i % near;
    q[i] = static_cast<int8_t>((q[low] & 15) | (q[low + near] << 4));
  }
}

}  // namespace tandem::engine
