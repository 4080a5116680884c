// Q8_0: 32 elements in 34 bytes.
//
//   half d | int8 q[32]           x[i] = d * q[i],  q in -127..127
#include <algorithm>
#include <cmath>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"
#include "engine/quant/k_search.h"

namespace tandem::engine {
namespace {

constexpr size_t kElements = 32;
constexpr size_t kBytes = 34;
constexpr float kMaxQuant = 127;

}  // namespace

void DequantizeQ8_0(const std::byte* src, float* dst, size_t count) {
  for (size_t start = 0; start < count; start += kElements, src += kBytes, dst += kElements) {
    const float d = HalfToFloat(LoadU16(src));
    for (size_t i = 0; i < kElements; ++i) dst[i] = d * static_cast<float>(static_cast<int8_t>(src[2 + i]));
  }
}

void QuantizeQ8_0(const float* src, std::byte* dst, size_t count) {
  for (size_t start = 0; start < count; start += kElements, src += kElements, dst += kBytes) {
    float largest = 0;
    for (size_t i = 0; i < kElements; ++i) largest = std::max(largest, std::abs(Finite(src[i])));
    // The quotients use the scale as stored, so its rounding costs nothing twice.
    const uint16_t half = ScaleToHalf(largest / kMaxQuant);
    const float d = HalfToFloat(half);
    StoreU16(half, dst);
    for (size_t i = 0; i < kElements; ++i) {
      const float q = d > 0 ? std::nearbyint(Finite(src[i]) / d) : 0;
      dst[2 + i] = static_cast<std::byte>(static_cast<int8_t>(std::clamp(q, -kMaxQuant, kMaxQuant)));
    }
  }
}

}  // namespace tandem::engine
